/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guards: a mutation in two steps around a database commit. What is proved, for every interleaving:
 *
 *     no 304 carries a version older than the last database commit that had begun before the reader's
 *     last look at the shared memory; while a commit is under way there is no 304 at all
 *
 * One row, one version clock. Each writer holds one guard and may vanish between any two steps; the guards overlap or follow
 * each other. The daemon dies anywhere, and starts again warm or cold.
 *
 * What lease.pml proves is taken as given here: a former incarnation's index is believed by nobody once the next one answers.
 * So there is one index, which a restart replaces at once, and a check that began on the former one is unknown. Guards are
 * carried by the socket only; guard_spool.pml has the spool.
 *
 * -DJOURNAL adds the journal: an event that is in it is answered at once, others wait for the store. It keeps the last event of
 * each guard and the highest LSN, which is what replaying it in order comes to. It may have no room, so that it lacks events
 * which the store has.
 *
 * Left to words: --fresh, by which an operator says that nothing of a former run exists, so that a cold start needs no guard of
 * its own; after a reboot that guard lasts the linger less the machine's uptime, since every confirmation that was sent
 * before it is at least so old.
 *
 * Time is kept as in lease.pml, as what is left: no bound. Each rule stands in an #ifndef NO_...
 */

#ifndef INCARNATIONS
#define INCARNATIONS 2
#endif
#ifndef GUARDS
#define GUARDS 2 /* 1 or 2; guard 0 is the daemon's own */
#endif
#ifndef LINGER
#define LINGER 1
#endif
/* From the sending of the confirmation to the end of COMMIT less than this, which the application sees to. */
#define BOUND LINGER
#ifndef NO_LINGER
#define LIFE LINGER
#else
#define LIFE 0
#endif

#define LSN_FIRST(i) ((i) * 16)
mtype = {NOTHING, BEGIN, CONFIRM, COMMIT, ABORT};

/* ---- The database ---- */

byte db;                    /* the version that a query sees */
bool committing[GUARDS + 1]; /* COMMIT was sent, and has not ended */
byte bound[GUARDS + 1];     /* of the application's COMMIT, to go */
#if GUARDS == 1
#define COMMIT_UNDER_WAY (committing[1])
#else
#define COMMIT_UNDER_WAY (committing[1] || committing[2])
#endif

/* Where an application breaks the bound, what is left is the promise of etag_invalidate(). */
#ifndef PROMISE_AFTER_OK
#define PROMISE (!COMMIT_UNDER_WAY && seen_version == db)
#else
byte answered;         /* the last version whose guard_commit returned OK */
byte mine[GUARDS + 1];
#define PROMISE (seen_version >= answered)
#endif

/* ---- The index ---- */

byte lsn;
byte clock;    /* the low bits of the clock's word */
byte flux;     /* guards that stand on it: the top bit is flux > 0 */
byte version;  /* the entry */
byte fill_lsn; /* 0: none */

/* ---- The store ---- */

byte st_clock, st_version, st_fill_lsn;
bool st_guard[GUARDS + 1];

#ifdef JOURNAL
mtype jr_event[GUARDS + 1] = NOTHING; /* the last step of each guard in the journal: BEGIN, COMMIT, ABORT */
bool jr_newer[GUARDS + 1];            /* its LSN is above the store's last */
byte jr_clock;
#endif

/* ---- The daemon ---- */

bool up;
byte inc;
bool guard[GUARDS + 1]; /* open */
byte life[GUARDS + 1];  /* of an open guard since its writer's last sign of life, to go */
mtype request[GUARDS + 1] = NOTHING;
bool handled[GUARDS + 1]; /* in memory; the answer waits for the store */
bool answer[GUARDS + 1];

/* ---- What filler and reader hold between their steps ---- */

byte filling, token_inc, token_lsn, data;
byte looking, mapped, seen_version, seen_fill_lsn;
inline fill_over() { filling = 0; token_inc = 0; token_lsn = 0; data = 0 }
inline check_over() { looking = 0; mapped = 0; seen_version = 0; seen_fill_lsn = 0 }

/* As in lease.pml: what can't break the promise any more is taken away, so that states meet. */
inline forget_hopeless()
{
#ifndef PLAIN
    if /* stale for good */
    :: fill_lsn < clock -> version = 0; fill_lsn = 0
    :: else
    fi;
    if
    :: st_fill_lsn < st_clock -> st_version = 0; st_fill_lsn = 0
    :: else
    fi;
    if
    :: looking != 0 && (mapped != inc || seen_fill_lsn < clock) -> check_over()
    :: else
    fi;
    if
    :: filling != 0 && (!up || token_inc != inc || token_lsn < clock) -> fill_over()
    :: else
    fi;
#endif
    skip
}

/* ---- Guards in the daemon's memory ---- */

inline open(id)
{
    if
    :: !guard[id] -> guard[id] = true; flux++
    :: else
    fi;
    life[id] = LIFE
}
inline close(id)
{
    if
#ifndef NO_FLUX_COUNT
    :: guard[id] -> guard[id] = false; flux--
#else
    :: guard[id] -> guard[id] = false; flux = 0
#endif
    :: else
    fi;
    life[id] = 0
}
inline new_lsn()
{
    lsn++;
    assert(lsn < LSN_FIRST(inc + 1)); /* the model's own: numbers suffice */
    clock = lsn
}
inline close_as_commit(id)
{
#ifndef NO_NEW_LSN
    new_lsn();
#endif
    close(id);
    forget_hopeless()
}
/* A guard whose writer gave no sign of life for the linger counts as committed. (Here even if the writer lives.) */
inline linger_over(id)
{
#if defined(NO_LINGER_AS_COMMIT)
    close(id)
#elif defined(NO_COLD_RAISE)
    if
    :: id == 0 -> close(id)
    :: else -> close_as_commit(id)
    fi
#else
    close_as_commit(id)
#endif
}

inline handle(id)
{
    handled[id] = true;
    if
    :: request[id] == BEGIN -> open(id)
#ifndef NO_CONFIRM_REARMS
    :: request[id] == CONFIRM -> open(id)
#else
    :: request[id] == CONFIRM -> if :: guard[id] -> life[id] = LIFE :: else fi
#endif
    :: request[id] == COMMIT ->
#ifndef NO_INVALIDATION_IF_GONE
       close_as_commit(id)
#else
       if :: guard[id] -> close_as_commit(id) :: else fi
#endif
    :: request[id] == ABORT -> close(id)
    fi
}

inline give_answer(id)
{
    if
    :: handled[id] -> handled[id] = false; request[id] = NOTHING; answer[id] = true
    :: else
    fi
}

#ifdef JOURNAL
/* journal_append(): event and answer in one turn. */
inline append(id, kind) { jr_event[id] = kind; jr_newer[id] = true; jr_clock = clock }
inline append_request(id)
{
    if
    :: request[id] == COMMIT || request[id] == ABORT -> append(id, request[id])
    :: else -> append(id, BEGIN)
    fi
}
/* journal_stored() */
inline forget_journal_of(id)
{
    jr_newer[id] = false;
#ifndef NO_JOURNAL_ONLY_NEWER
    jr_event[id] = NOTHING
#endif
}
/* recovery_load(): what the store does not have, and nothing older. */
#if defined(NO_JOURNAL_REPLAYED)
#define REPLAYED(id) false
#elif defined(NO_JOURNAL_ONLY_NEWER)
#define REPLAYED(id) (jr_event[id] != NOTHING)
#else
#define REPLAYED(id) jr_newer[id]
#endif
inline replay(id)
{
    if
    :: REPLAYED(id) -> st_guard[id] = (jr_event[id] == BEGIN)
    :: else
    fi;
    jr_event[id] = NOTHING;
    jr_newer[id] = false
}
#endif

/* All that was done in memory, in one transaction; then the answers. (A smaller one is this step, taken earlier.) */
#define STORE_MATTERS (inc < INCARNATIONS) /* else nobody will read it */
inline persist_clock() { if :: STORE_MATTERS -> st_clock = clock :: else fi }
inline persist_guards()
{
    if
    :: STORE_MATTERS ->
       st_guard[0] = guard[0];
#ifndef NO_GUARD_PERSIST
       st_guard[1] = guard[1];
#if GUARDS > 1
       st_guard[2] = guard[2];
#endif
#endif
#ifdef JOURNAL
       forget_journal_of(0); forget_journal_of(1);
#if GUARDS > 1
       forget_journal_of(2);
#endif
#endif
       skip
    :: else
    fi
}
inline give_answers()
{
    give_answer(1);
#if GUARDS > 1
    give_answer(2);
#endif
    forget_hopeless()
}

inline crash_one(id)
{
    guard[id] = false;
    life[id] = 0;
    request[id] = NOTHING;
    handled[id] = false
}

/* kill -9. The index stays as it is, and is believed until the next incarnation answers. */
inline crash()
{
    up = false;
    crash_one(0);
    crash_one(1);
#if GUARDS > 1
    crash_one(2);
#endif
    forget_hopeless()
}

inline restart_one(id)
{
    if
    :: st_guard[id] ->
       open(id)
#ifdef NO_LINGER_ANEW
       ; life[id] = 0
#endif
    :: else
    fi
}

/* The state is lost, or not to be trusted. Guards that are forgotten with it may still commit: so the daemon begins one of its
 * own, on the floor, for the linger, persisted like any other. */
inline cold()
{
    st_clock = 0;
    st_version = 0;
    st_fill_lsn = 0;
    st_guard[1] = false;
#if GUARDS > 1
    st_guard[2] = false;
#endif
#if !defined(NO_COLD_GUARD) && !defined(NO_COLD_GUARD_FIRST)
    st_guard[0] = true /* in the transaction that makes the new state one that may be loaded */
#else
    st_guard[0] = false
#endif
#ifdef JOURNAL
    ; jr_clock = 0; jr_event[0] = NOTHING; jr_event[1] = NOTHING; jr_newer[0] = false; jr_newer[1] = false
#if GUARDS > 1
    ; jr_event[2] = NOTHING; jr_newer[2] = false
#endif
#endif
}

inline load()
{
    inc++;
    up = true;
    lsn = LSN_FIRST(inc);
#ifdef JOURNAL
    replay(0); replay(1);
#if GUARDS > 1
    replay(2);
#endif
#ifndef NO_JOURNAL_REPLAYED
    if
    :: jr_clock > st_clock -> st_clock = jr_clock
    :: else
    fi;
#endif
    jr_clock = 0;
#endif
    clock = st_clock;
    version = 0;
    fill_lsn = 0;
    flux = 0;
    if
    :: st_fill_lsn != 0 && st_fill_lsn >= st_clock -> version = st_version; fill_lsn = st_fill_lsn
    :: else
    fi;
    restart_one(0);
    restart_one(1);
#if GUARDS > 1
    restart_one(2);
#endif
    if
    :: !STORE_MATTERS -> st_clock = 0; st_version = 0; st_fill_lsn = 0; st_guard[0] = false; st_guard[1] = false;
#if GUARDS > 1
       st_guard[2] = false
#endif
    :: else
    fi;
    forget_hopeless()
}

active proctype daemon()
{
    bool raise_floor; /* NO_COLD_GUARD only: the floor is raised after the linger, and nothing else */

end:
    do
    :: d_step { !up && inc < INCARNATIONS && inc > 0 -> load() } /* warm */
    :: d_step {
           !up && inc < INCARNATIONS -> cold(); load();
#ifdef NO_COLD_GUARD
           raise_floor = true; life[0] = LINGER
#endif
#ifdef NO_COLD_GUARD_FIRST
           open(0) /* the store hears of it later, as of any other */
#endif
       }
#ifdef NO_COLD_GUARD
    :: d_step { up && raise_floor && life[0] == 0 -> new_lsn(); raise_floor = false; forget_hopeless() }
#endif
    :: d_step { up && inc < INCARNATIONS -> crash() }

    :: d_step { up && request[1] != NOTHING && !handled[1] -> handle(1) }
    :: d_step { up && guard[1] && life[1] == 0 -> linger_over(1) }
#if GUARDS > 1
    :: d_step { up && request[2] != NOTHING && !handled[2] -> handle(2) }
    :: d_step { up && guard[2] && life[2] == 0 -> linger_over(2) }
#endif
    :: d_step { up && guard[0] && life[0] == 0 -> linger_over(0) }
#ifdef JOURNAL
    /* The same with room in the journal. (A confirmation of a guard that stands is no event: it waits for the guard's own.) */
#define IS_EVENT(id) (request[id] != NOTHING && !handled[id] && !(request[id] == CONFIRM && guard[id]))
    :: d_step { up && STORE_MATTERS && IS_EVENT(1) -> handle(1); append_request(1); give_answer(1); forget_hopeless() }
    :: d_step { up && STORE_MATTERS && guard[1] && life[1] == 0 -> linger_over(1); append(1, COMMIT) }
#if GUARDS > 1
    :: d_step { up && STORE_MATTERS && IS_EVENT(2) -> handle(2); append_request(2); give_answer(2); forget_hopeless() }
    :: d_step { up && STORE_MATTERS && guard[2] && life[2] == 0 -> linger_over(2); append(2, COMMIT) }
#endif
    :: d_step { up && STORE_MATTERS && guard[0] && life[0] == 0 -> linger_over(0); append(0, COMMIT) }
#ifdef NO_STORE_IS_A_PREFIX /* the store failed and the event was dropped; then it took a later one, of another target */
    :: d_step { up && jr_newer[1] -> forget_journal_of(1) }
#endif
#endif

#ifndef NO_ONE_TRANSACTION
    :: d_step { up -> persist_guards(); persist_clock(); give_answers() }
#else
    :: d_step { up -> persist_guards() }
    :: d_step { up -> persist_guards(); persist_clock(); give_answers() }
#endif
#ifdef NO_PERSIST_BEFORE_ANSWER
    :: d_step { up -> give_answers() }
#endif
    od
}

/* ---- Writers ---- */

#define CAN_SEND(id) (up && request[id] == NOTHING && !answer[id])

/* One writer with one guard. Wherever it may go on, it may also vanish. */
proctype writer(byte id)
{
    /* etag_guard_begin(): sent again after a lost connection */
    do
    :: d_step { CAN_SEND(id) -> request[id] = BEGIN }
    :: atomic { answer[id] -> answer[id] = false; break }
    :: goto vanished
    od;

    /* etag_guard_confirm(), right before COMMIT. The bound counts from its sending. */
#ifndef NO_CONFIRM
    do
    :: d_step {
           CAN_SEND(id) -> request[id] = CONFIRM;
#ifndef NO_BOUND_FROM_SENDING
           bound[id] = BOUND
#endif
       }
    :: atomic {
           answer[id] -> answer[id] = false;
#ifdef NO_BOUND_FROM_SENDING
           bound[id] = BOUND;
#endif
           break
       }
    :: goto rolled_back /* not confirmed: it must not commit */
    :: goto vanished
    od;
#else
    bound[id] = BOUND;
#endif

#ifndef NO_BOUND
    if
    :: atomic { bound[id] > 0 -> committing[id] = true }
    :: atomic { bound[id] == 0 -> goto rolled_back }
    :: goto vanished
    fi;
#else
    committing[id] = true;
#endif

    /* COMMIT ends well, or not, and the writer sees it, or not. Of an outcome that it does not know it must say nothing: the
     * guard lingers. */
    if
    :: d_step {
           committing[id] -> committing[id] = false; db++; bound[id] = 0;
#ifdef PROMISE_AFTER_OK
           mine[id] = db
#endif
       }
    :: atomic { committing[id] = false; goto rolled_back }
#ifdef NO_KNOWN_OUTCOME /* connection lost: commits to be sure, while the database is still at it */
    :: atomic { CAN_SEND(id) -> request[id] = COMMIT };
       d_step { committing[id] = false; db++ };
       goto vanished
#endif
#ifdef NO_KNOWN_ROLLBACK /* connection lost: believes in a rollback */
    :: atomic { CAN_SEND(id) -> request[id] = ABORT };
       d_step { committing[id] = false; db++ };
       goto vanished
#endif
    fi;

    /* etag_guard_commit() */
#ifndef PROMISE_AFTER_OK
    if
    :: d_step { CAN_SEND(id) -> request[id] = COMMIT }
    :: true
    fi;
#else
    do
    :: d_step { CAN_SEND(id) -> request[id] = COMMIT }
    :: d_step { answer[id] && answered < mine[id] -> answered = mine[id] }
    :: break
    od;
#endif
    goto vanished;

rolled_back: /* etag_guard_abort() */
    bound[id] = 0;
    if
    :: d_step { CAN_SEND(id) -> request[id] = ABORT }
    :: true
    fi;

vanished:
    bound[id] = 0
}

/* ---- A filler and a reader ---- */

#ifndef NO_FLUX_AT_FILL
#define FILL_IN_FLUX (flux > 0)
#else
#define FILL_IN_FLUX false
#endif
#ifndef NO_FLUX_AT_LOOKUP
#define LOOKUP_IN_FLUX (flux > 0)
#else
#define LOOKUP_IN_FLUX false
#endif
#if !defined(PLAIN) && !defined(REACH_304_AFTER_COMMIT) /* a last version can't be too old: such a fill is lost */
#define DATA_MATTERS (data != GUARDS)
#else
#define DATA_MATTERS true
#endif

active proctype filler()
{
end:
    do
    :: d_step { filling == 0 && inc > 0 -> token_inc = inc; token_lsn = lsn; filling = 1; forget_hopeless() }
    :: d_step { filling == 1 -> data = db; filling = 2; if :: !DATA_MATTERS -> fill_over() :: else fi }
    :: atomic {
           filling == 2 ->
           if
           :: up && token_inc == inc && clock <= token_lsn && !FILL_IN_FLUX ->
              version = data;
              fill_lsn = token_lsn;
              if
              :: STORE_MATTERS -> st_version = version; st_fill_lsn = fill_lsn
              :: true
              fi
           :: true /* refused or lost */
           fi;
           fill_over()
       }
    od
}

active proctype reader()
{
end:
    do
    :: d_step { looking == 0 && fill_lsn != 0 -> mapped = inc; seen_version = version; seen_fill_lsn = fill_lsn; looking = 1 }
    :: d_step {
           looking == 1 ->
           if
           :: mapped != inc || LOOKUP_IN_FLUX || clock > seen_fill_lsn /* no lease, in flux, stale: unknown */
           :: else ->
              assert(PROMISE);
#ifdef REACH_304_AFTER_COMMIT /* not vacuous: after every commit, in a second incarnation, 304 again */
              assert(!(inc == 2 && db == GUARDS))
#endif
           fi;
           check_over()
       }
    od
}

/* ---- Time ---- */

/* The application bounds its COMMIT: it ends, one way or the other, before the bound does. */
#ifndef NO_BOUND
#define IN_BOUND(id) (!committing[id] || bound[id] > 1)
#else
#define IN_BOUND(id) true
#endif
inline count_down(left) { if :: left > 0 -> left-- :: else fi }

active proctype time()
{
end:
    do
#if GUARDS == 1
    :: d_step { IN_BOUND(1) -> count_down(bound[1]); count_down(life[0]); count_down(life[1]) }
#else
    :: d_step {
           IN_BOUND(1) && IN_BOUND(2) ->
           count_down(bound[1]); count_down(bound[2]);
           count_down(life[0]); count_down(life[1]); count_down(life[2])
       }
#endif
    od
}

init
{
    atomic {
        run writer(1);
#if GUARDS > 1
        run writer(2)
#endif
    }
}
