/* SPDX-License-Identifier: Apache-2.0 */
/* The table of resources: a new resource is a new row here, and nothing else. */
#include "uploads_resources.h"

#include <string.h>

#define PAYERS "Aetna|Anthem|Cigna|Humana|Kaiser|Medicaid|Medicare|UnitedHealthcare"
#define SEVERITIES "info|warning|critical"

const struct resource resources[RESOURCE_COUNT] = {
    {"uploads",
     "uploads",
     "upload",
     600,
     {{"filename", "TEXT", false, "remittance_%.csv"},
      {"payer", "TEXT", true, PAYERS},
      {"status", "TEXT", true, "received|parsing|processed|processed|processed|failed"},
      {"row_count", "INTEGER", false, "#40-9000"},
      {"bytes", "INTEGER", false, "#12000-9000000"},
      {"received_at", "TEXT", false, "date"}}},
    {"claim-records",
     "claim_records",
     "claim-record",
     3000,
     {{"claim_number", "TEXT", false, "CLM-%"},
      {"upload_id", "INTEGER", true, "@uploads"},
      {"payer", "TEXT", true, PAYERS},
      {"procedure_code", "TEXT", false, "99213|99214|93000|80053|85025|36415|71046|97110"},
      {"billed_cents", "INTEGER", false, "#40000-950000"},
      {"allowed_cents", "INTEGER", false, "#2000-40000"},
      {"status", "TEXT", true, "submitted|paid|paid|paid|denied|appealed"},
      {"service_date", "TEXT", false, "date"}}},
    {"report-runs",
     "report_runs",
     "report-run",
     300,
     {{"report", "TEXT", true, "denials-by-payer|aging|underpayments|upload-quality|monthly-close"},
      {"status", "TEXT", true, "queued|running|done|done|done|failed"},
      {"row_count", "INTEGER", false, "#0-20000"},
      {"started_at", "TEXT", false, "date"}}},
    {"drift-events",
     "drift_events",
     "drift-event",
     400,
     {{"upload_id", "INTEGER", true, "@uploads"},
      {"column_name", "TEXT", false, "member_id|allowed_amt|cpt|dos|npi|paid_amt"},
      {"kind", "TEXT", true, "new-column|missing-column|type-changed|values-shifted"},
      {"severity", "TEXT", true, SEVERITIES},
      {"seen_at", "TEXT", false, "date"}}},
    {"payer-mappings",
     "payer_mappings",
     "payer-mapping",
     400,
     {{"payer", "TEXT", true, PAYERS},
      {"source_column", "TEXT", false, "Member ID|Allowed Amt|CPT|Date of Svc|NPI|Paid Amt"},
      {"target_column", "TEXT", false, "member_id|allowed_cents|procedure_code|service_date|npi"},
      {"confidence_percent", "INTEGER", false, "#55-100"},
      {"state", "TEXT", true, "proposed|confirmed|confirmed|rejected"}}},
    {"alert-events",
     "alert_events",
     "alert-event",
     300,
     {{"title", "TEXT", false, "Denial rate above normal|Upload late|Column drift|Duplicate file"},
      {"severity", "TEXT", true, SEVERITIES},
      {"state", "TEXT", true, "open|acknowledged|closed"},
      {"upload_id", "INTEGER", true, "@uploads"},
      {"raised_at", "TEXT", false, "date"}}},
    {"operator-judgments",
     "operator_judgments",
     "operator-judgment",
     800,
     {{"claim_record_id", "INTEGER", true, "@claim_records"},
      {"operator", "TEXT", true, "a.ortiz|b.chen|c.haddad|d.novak|e.okafor"},
      {"judgment", "TEXT", true, "accept|accept|appeal|write-off|ask-payer"},
      {"note", "TEXT", false, "Checked against contract page %"},
      {"judged_at", "TEXT", false, "date"}}},
};

const struct resource *resource_find(etag_str path)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++)
        if (strlen(resources[i].path) == path.len &&
            memcmp(resources[i].path, path.data, path.len) == 0)
            return &resources[i];
    return NULL;
}

const struct column *resource_column(const struct resource *resource, etag_str name)
{
    for (const struct column *c = resource->columns; c->name; c++)
        if (strlen(c->name) == name.len && memcmp(c->name, name.data, name.len) == 0)
            return c;
    return NULL;
}
