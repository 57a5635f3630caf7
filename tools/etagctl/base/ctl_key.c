/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as text. The scope is public by default: here a person looks, and nothing leaks
 * into a cache. */
#include "ctl_key.h"

#include "key.h"
#include "text.h"

void ctl_key_init(struct ctl_key *key)
{
    ETAG_INIT(&key->key);
    key->key.scope.kind = ETAG_SCOPE_PUBLIC;
    key->key.vary = key->vary;
}

bool ctl_split_field(const char *text, etag_field *out)
{
    const etag_str line = str_of(text);
    const char *colon = strchr(text, ':');

    if (!colon)
        return false;
    const size_t name_len = (size_t)(colon - text);
    out->name = str_trim((etag_str){text, name_len});
    out->value = str_trim(str_skip(line, name_len + 1));
    return out->name.len > 0;
}

bool ctl_key_option(struct ctl *ctl, void *into, int option, const char *value)
{
    struct ctl_key *key = into;

    switch (option) {
    case CTL_KEY_SCOPE:
        key->key.scope.kind = strcmp(value, "public") == 0 ? ETAG_SCOPE_PUBLIC : ETAG_SCOPE_NAMED;
        key->key.scope.name = key->key.scope.kind == ETAG_SCOPE_NAMED ? str_of(value)
                                                                      : (etag_str){0};
        return true;
    case CTL_KEY_RELEASE:
        key->key.release = str_of(value);
        return true;
    case CTL_KEY_SCHEME:
        key->key.scheme = str_of(value);
        return true;
    case CTL_KEY_VARY:
        if (key->key.vary_count == VARY_COUNT_MAX) {
            ctl_usage_error(ctl, "at most %d --vary", VARY_COUNT_MAX);
            return false;
        }
        if (!ctl_split_field(value, &key->vary[key->key.vary_count]))
            key->vary[key->key.vary_count] = (etag_field){str_of(value), {0}};
        key->key.vary_count++;
        return true;
    default:
        return false;
    }
}

bool ctl_key_argument(struct ctl *ctl, struct ctl_key *key)
{
    CLEANUP(cleanup_free) struct key *canonical = malloc(sizeof(*canonical));

    if (!ctl_want_arguments(ctl, 1))
        return false;
    const char *wrong = resource_split(str_of(ctl->argv[0]), &key->key.resource);
    if (!wrong && canonical)
        wrong = key_canonicalize(canonical, &key->key);
    if (wrong)
        ctl_usage_error(ctl, "%s: %s", ctl->argv[0], wrong);
    return !wrong;
}

char *key_text(const etag_resource *resource)
{
    char *text = NULL;
    const bool host = resource->host.len > 0;
    /* Without a host, a path that begins with "//" is written after an empty one. */
    const bool slashes = host || str_starts_with(resource->target, ETAG_LIT("//"));

    if (asprintf(&text, "%s%.*s%.*s", slashes ? "//" : "", (int)resource->host.len,
                 host ? resource->host.data : "", (int)resource->target.len,
                 resource->target.data ? resource->target.data : "") < 0)
        abort();
    return text;
}

void doc_key(doc *object, const etag_key *key)
{
    CLEANUP(cleanup_free) char *text = key_text(&key->resource);

    doc_words(object, "key", text);
    doc_text(object, "scope",
             key->scope.kind == ETAG_SCOPE_PUBLIC ? ETAG_LIT("public") : key->scope.name);
    if (key->release.len > 0)
        doc_text(object, "release", key->release);
    if (key->scheme.len > 0)
        doc_text(object, "scheme", key->scheme);
    if (key->vary_count == 0)
        return;
    doc *vary = doc_object();
    for (size_t i = 0; i < key->vary_count; i++) {
        char name[VARY_NAME_BYTES_MAX + 1];
        snprintf(name, sizeof(name), "%.*s", (int)key->vary[i].name.len, key->vary[i].name.data);
        doc_text(vary, name, key->vary[i].value);
    }
    doc_add(object, "vary", vary);
}
