/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor: is everything as it should be, and what to change. Never changes anything itself, works
 * without a daemon and as any user, and says what it could not see.
 */
#include "ctl_doctor.h"

#include "ctl_output.h"

#define TEXT_COLUMN 20 /* after level and topic */

static size_t count_of(const struct doctor *doctor, enum finding_level level)
{
    size_t count = 0;

    for (size_t i = 0; i < doctor->finding_count; i++)
        count += doctor->findings[i].level == level;
    return count;
}

/* ---- What is printed ---- */

static const char *level_word(enum finding_level level)
{
    static const char *const words[] = {"ok", "unseen", "warn", "FAIL"};

    return words[level];
}

static void print_findings(const struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->finding_count; i++) {
        const struct finding *finding = &doctor->findings[i];
        printf("%-8s%-*s", level_word(finding->level), TEXT_COLUMN - 8, finding->topic);
        output_wrapped(finding->text, TEXT_COLUMN);
        if (finding->advice) {
            printf("%*s-> ", TEXT_COLUMN, "");
            output_wrapped(finding->advice, TEXT_COLUMN + 3);
        }
    }
    const size_t fails = count_of(doctor, FINDING_FAIL), warns = count_of(doctor, FINDING_WARN),
                 unseen = count_of(doctor, FINDING_UNSEEN);
    printf("\n");
    if (fails + warns == 0)
        printf("all that could be seen is well");
    else
        printf("%zu failure%s, %zu warning%s", fails, fails == 1 ? "" : "s", warns,
               warns == 1 ? "" : "s");
    if (unseen > 0)
        printf("; %zu not seen", unseen);
    putchar('\n');
}

static void print_json(const struct doctor *doctor)
{
    doc *out = doc_object(), *list = doc_array();

    for (size_t i = 0; i < doctor->finding_count; i++) {
        const struct finding *finding = &doctor->findings[i];
        doc *one = doc_object();
        doc_words(one, "level",
                  finding->level == FINDING_FAIL ? "fail" : level_word(finding->level));
        doc_words(one, "topic", finding->topic);
        doc_words(one, "found", finding->text);
        doc_words(one, "advice", finding->advice);
        doc_append(list, one);
    }
    doc_add(out, "findings", list);
    doc_number(out, "failures", count_of(doctor, FINDING_FAIL));
    doc_number(out, "warnings", count_of(doctor, FINDING_WARN));
    doc_number(out, "unseen", count_of(doctor, FINDING_UNSEEN));
    output_json(out);
}

/* ---- The command ---- */

static void doctor_free(struct doctor **doctor)
{
    if (*doctor)
        cleanup_daemon(&(*doctor)->daemon);
    free(*doctor);
}

static int doctor_run(struct ctl *ctl)
{
    CLEANUP(doctor_free) struct doctor *doctor = calloc(1, sizeof(*doctor));

    if (!doctor)
        abort();
    doctor->ctl = ctl;
    if (!ctl_parse(ctl, NULL, doctor) || !ctl_want_arguments(ctl, 0) ||
        !ctl_daemon_init(&doctor->daemon, ctl))
        return ctl->exit_status;
    doctor_connection(doctor);
    doctor_lease(doctor);
    doctor_tables(doctor);
    doctor_process(doctor);
    doctor_machine(doctor);
    doctor_spool(doctor);
    doctor_store(doctor);
    doctor_config(doctor);
    if (ctl->json)
        print_json(doctor);
    else
        print_findings(doctor);
    return count_of(doctor, FINDING_FAIL) > 0   ? CTL_ERROR
           : count_of(doctor, FINDING_WARN) > 0 ? CTL_NO
                                                : CTL_DONE;
}

static const struct ctl_option doctor_options[] = {
    {'c', "config", "FILE", "default: /etc/etagd/etagd.yaml, if it is there",
     CTL_TEXT(struct doctor, config_path)},
    {'d', "state-dir", "DIR", "of a daemon that is down; default: /var/lib/etagd",
     CTL_TEXT(struct doctor, state_dir)},
    {0}};

const struct ctl_command ctl_doctor = {
    "doctor",
    "",
    "Checks the daemon and its surroundings, and says what to change",
    "Works without a daemon and as any user; as the daemon's user or root it sees\n"
    "more ('unseen': it could not look). It changes nothing.",
    doctor_options,
    false,
    doctor_run,
    .exit_status = "0 all is well, 1 warnings, 2 failures"};
