/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dates: "not modified since" has a resolution of one second (RFC 9110, section 8.8.2.2). What is proved, for every interleaving:
 *
 *     no 304 by a date alone goes to a client that has another version than the one of now
 *
 * What lease.pml proves is taken as given here: a commit and its invalidation are one step, after which nobody answers from the
 * former entry, and a fill with older data is refused. So an entry is always of the last version, and what can be wrong is the
 * comparison with what the client has.
 *
 * A row whose dates are strong gets no second version in a second: its database sees to that, and its filler says so. Of any
 * other row nobody knows.
 */

#ifndef VERSIONS
#define VERSIONS 3
#endif
#define SECONDS VERSIONS

byte db = 1;                  /* the version that a query sees */
byte second = 1;              /* the time of day */
byte modified = 1;            /* Last-Modified of that version */
bool row_is_strong;           /* the row's kind */

byte entry, entry_modified;   /* 0: no entry */
bool entry_strong;            /* what its filler said */
byte data, data_modified;     /* what the filler has read; 0: nothing */
byte has, has_modified;       /* the client's version, by an earlier 200; 0: none */

active proctype database()
{
    if
    :: row_is_strong = true
    :: row_is_strong = false
    fi;
end:
    do
    :: atomic {
           db < VERSIONS && (!row_is_strong || second > modified) ->
           db++; modified = second;
           entry = 0; entry_modified = 0; entry_strong = false; /* stale */
           data = 0; data_modified = 0                          /* its token is */
       }
    :: atomic { second < SECONDS -> second++ }
    od
}

active proctype filler()
{
end:
    do
    :: atomic { data == 0 -> data = db; data_modified = modified }
    :: atomic {
           data != 0 -> entry = data; entry_modified = data_modified;
#ifndef NO_FILLER_KNOWS
           entry_strong = row_is_strong;
#else
           entry_strong = true;
#endif
           data = 0; data_modified = 0
       }
    od
}

/* Rule DATE_STRONG */
#ifndef NO_DATE_STRONG
#define DATE_COUNTS entry_strong
#else
#define DATE_COUNTS true
#endif

active proctype client()
{
end:
    do
    :: atomic { has != db -> has = db; has_modified = modified } /* a 200, from rendering */
    :: atomic {
           has != 0 && entry != 0 && entry_modified <= has_modified && DATE_COUNTS ->
           assert(has == db);
#ifdef REACH_304
           assert(db < 2); /* not vacuous: a 304 of a second version */
#endif
           has = 0; has_modified = 0 /* it forgets, and may come again */
       }
    od
}
