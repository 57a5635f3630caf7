/* SPDX-License-Identifier: Apache-2.0 */
/* Figures are found by name, so that a daemon of another release is understood as far as the names
 * agree. */
#include "stats_sample.h"

#include "clocktime.h"
#include "text.h"

/* ---- Taking ---- */

static void name_copy(char out[SAMPLE_NAME_BYTES], etag_str name)
{
    snprintf(out, SAMPLE_NAME_BYTES, "%.*s", (int)name.len, name.data ? name.data : "");
}

static void histogram_take(struct sample_histogram *out, const struct histogram_view *view)
{
    name_copy(out->name, view->name);
    out->sum_ns = view->sum_ns;
    out->count = 0;
    out->bucket_count = view->bucket_count;
    for (size_t i = 0; i < view->bucket_count; i++) {
        out->buckets[i] = view->buckets[i];
        out->count += view->buckets[i].count;
    }
}

static void stat_take(struct sample *sample, const struct stat_view *stat)
{
    if (!stat->is_text && sample->number_count < STATS_MAX) {
        struct sample_number *number = &sample->numbers[sample->number_count++];
        name_copy(number->name, stat->name);
        number->value = stat->number;
    } else if (stat->is_text && sample->text_count < SAMPLE_TEXTS_MAX) {
        struct sample_text *text = &sample->texts[sample->text_count++];
        name_copy(text->name, stat->name);
        snprintf(text->text, sizeof(text->text), "%.*s", (int)stat->text.len,
                 stat->text.data ? stat->text.data : "");
    }
}

static void sample_take(struct sample *sample, const struct reply *reply)
{
    sample->taken_ns = channel_now_ns();
    sample->wall_ms = time_wall_ms();
    sample->number_count = sample->text_count = 0;
    for (size_t i = 0; i < reply->status.stat_count; i++)
        stat_take(sample, &reply->status.stats[i]);
    sample->histogram_count = reply->status.histogram_count;
    for (size_t i = 0; i < sample->histogram_count; i++)
        histogram_take(&sample->histograms[i], &reply->status.histograms[i]);
}

etag_status sample_ask(struct sample *sample, struct channel *channel, uint32_t timeout_ms,
                       struct fault *fault)
{
    const uint64_t deadline_ns = channel_now_ns() + timeout_ms * NS_PER_MS;
    etag_status status = ETAG_UNAVAILABLE;

    for (int tries = 0; tries < 2 && status == ETAG_UNAVAILABLE; tries++) {
        const bool was_connected = channel->state != CHANNEL_CLOSED;
        struct request request = {.kind = REQUEST_STATUS};
        struct reply reply;
        status = channel_connect(channel, deadline_ns, fault);
        if (status == ETAG_OK)
            status = channel_call(channel, &request, deadline_ns, NULL, &reply, fault);
        if (status == ETAG_OK)
            status = channel_reply_status(&reply, REPLY_STATUS, fault);
        if (status == ETAG_OK)
            sample_take(sample, &reply);
        else
            channel_close(channel); /* a late answer belongs to no question */
        if (!was_connected)
            break;
    }
    return status;
}

/* ---- Looking ---- */

static const struct sample_number *number_find(const struct sample *sample, const char *name)
{
    for (size_t i = 0; i < sample->number_count; i++)
        if (strcmp(sample->numbers[i].name, name) == 0)
            return &sample->numbers[i];
    return NULL;
}

bool sample_has(const struct sample *sample, const char *name)
{
    return number_find(sample, name) != NULL;
}

uint64_t sample_number(const struct sample *sample, const char *name)
{
    const struct sample_number *number = number_find(sample, name);

    return number ? number->value : 0;
}

const char *sample_text(const struct sample *sample, const char *name)
{
    for (size_t i = 0; i < sample->text_count; i++)
        if (strcmp(sample->texts[i].name, name) == 0)
            return sample->texts[i].text;
    return "";
}

const struct sample_histogram *sample_histogram(const struct sample *sample, const char *name)
{
    for (size_t i = 0; i < sample->histogram_count; i++)
        if (strcmp(sample->histograms[i].name, name) == 0)
            return &sample->histograms[i];
    return NULL;
}

/* ---- Between two ---- */

bool sample_is_new_run(const struct sample *now, const struct sample *before)
{
    return sample_number(now, "incarnation") != sample_number(before, "incarnation");
}

double sample_rate(const struct sample *now, const struct sample *before, const char *name)
{
    const uint64_t value = sample_number(now, name);
    const uint64_t former = sample_is_new_run(now, before) ? 0 : sample_number(before, name);
    const double seconds = (double)(now->taken_ns - before->taken_ns) / (double)NS_PER_S;

    /* What a client writes on its page is the client's: it may go back. */
    return value > former && seconds > 0 ? (double)(value - former) / seconds : 0;
}

static uint64_t count_upto(const struct sample_histogram *histogram, uint64_t upto_ns)
{
    for (size_t i = 0; histogram && i < histogram->bucket_count; i++)
        if (histogram->buckets[i].upto_ns == upto_ns)
            return histogram->buckets[i].count;
    return 0;
}

void sample_histogram_between(struct sample_histogram *out, const struct sample *now,
                              const struct sample *before, const char *name)
{
    const struct sample_histogram *const last = sample_histogram(now, name);
    const struct sample_histogram *const first = sample_is_new_run(now, before)
                                                     ? NULL
                                                     : sample_histogram(before, name);

    out->count = out->sum_ns = out->bucket_count = 0;
    snprintf(out->name, sizeof(out->name), "%s", name);
    if (!last)
        return;
    out->sum_ns = last->sum_ns - (first ? first->sum_ns : 0);
    for (size_t i = 0; i < last->bucket_count; i++) {
        const struct bucket_view *bucket = &last->buckets[i];
        const uint64_t count = bucket->count - count_upto(first, bucket->upto_ns);
        if (count == 0)
            continue;
        out->buckets[out->bucket_count++] = (struct bucket_view){bucket->upto_ns, count};
        out->count += count;
    }
}

uint64_t sample_quantile_ns(const struct sample_histogram *histogram, unsigned per_mille)
{
    uint64_t left = (histogram->count * per_mille + 999) / 1000;

    if (left == 0)
        left = 1;
    for (size_t i = 0; i < histogram->bucket_count; i++) {
        if (histogram->buckets[i].count >= left)
            return histogram->buckets[i].upto_ns;
        left -= histogram->buckets[i].count;
    }
    return 0;
}
