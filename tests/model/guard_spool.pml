/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guard whose steps go over the socket or through the spool, each step either way. What is
 * proved, for every interleaving, is the promise of guard.pml:
 *
 *     no 304 carries a version older than the last database commit that had begun before the reader's
 *     last look at the shared memory; while a commit is under way there is no 304 at all
 *
 * One row, one version clock, one guard, warm restarts. The spool has no order: a scan takes time, sees every file that stood
 * there when it began, and of those that were renamed meanwhile any, the later without the earlier too. A request may be
 * handled long after its writer went on through the spool.
 *
 * What lease.pml proves is taken as given: a daemon that starts waits until the former lease is over, so there is one index;
 * the writer reads the clock after its rename; the reader loads the deadline first and reads the time last. What guard.pml
 * proves is left out: guards that overlap, cold starts, unknown outcomes. "Stored" is the store or the journal.
 *
 * Time is kept as in lease.pml, as what is left: no bound. Each rule stands in an #ifndef NO_...
 */

#ifndef INCARNATIONS
#define INCARNATIONS 2
#endif
#ifndef LEASE
#define LEASE 1
#endif
#ifndef LINGER
#define LINGER 2
#endif
#define BOUND LINGER /* of COMMIT, from the confirmation on */

#define LSN_FIRST(i) ((i) * 32)

/* ---- The database ---- */

byte db;         /* the version that a query sees */
bool committing; /* COMMIT was sent, and has not ended */
byte bound;      /* of the application's COMMIT, to go */
byte bound_sent, bound_renamed; /* the same while the confirmation is under way: from its sending, from its file's rename */

#ifndef PROMISE_AFTER_OK
#define PROMISE (!committing && seen_version == db)
#else
byte answered; /* the last version whose guard_commit returned OK */
#define PROMISE (seen_version >= answered)
#endif

/* ---- The index ---- */

byte lease; /* to go */
byte lsn;
byte clock; /* the low bits of the clock's word */
bool flux;  /* its top bit: the guard is open */
byte version, fill_lsn; /* the entry; 0: none */

/* ---- What survives the daemon ---- */

byte st_clock, st_version, st_fill_lsn;
bool st_guard;
mtype = {NOTHING, BEGIN, CONFIRM, COMMIT, ABORT};
#define KINDS 6 /* one more than the largest of these names */
bool file[KINDS];  /* in the spool */

/* ---- The daemon ---- */

mtype = {DOWN, WAITING, SCANNING, SERVING};
mtype step = DOWN;
byte inc;
byte renewal;  /* clock reading + L, to go */
byte life;     /* of the open guard, since its last sign of life, to go */
bool ended;    /* its writer has said commit or abort: the tombstone. In memory only */
bool late[KINDS]; /* renamed while the scan ran: may be missed */
byte applied[KINDS]; /* the file was applied: 1; and is stored: 2. In memory only */

mtype request = NOTHING;
bool handled;           /* in memory; the answer waits for the store */
mtype answer = NOTHING; /* to this request */
mtype wanted = NOTHING; /* the writer is in this call: an answer to another is dropped */

/* ---- What writer, filler and reader hold between their steps ---- */

byte wait;      /* T + L, to go */
byte filling, token_inc, token_lsn, data;
byte looking, deadline, seen_version, seen_fill_lsn;
inline fill_over() { filling = 0; token_inc = 0; token_lsn = 0; data = 0 }
inline check_over() { looking = 0; deadline = 0; seen_version = 0; seen_fill_lsn = 0 }

inline forget_file(kind) { late[kind] = false; applied[kind] = 0 }

/* Whatever happens from here on, no old version can be answered: the writer will not commit, or it did and nobody has old data.
 * (So an abort can make nothing stale, whenever it is found, whatever else of its guard is found later; that it leaves other
 * guards alone is guard.pml's matter. With -DGO_ON this goes on all the same.) */
inline nothing_more()
{
    step = DOWN; inc = INCARNATIONS;
    lease = 0; lsn = 0; clock = 0; flux = false; version = 0; fill_lsn = 0;
    st_clock = 0; st_version = 0; st_fill_lsn = 0; st_guard = false;
    renewal = 0; life = 0; ended = false; request = NOTHING; handled = false; answer = NOTHING;
    file[BEGIN] = false; file[CONFIRM] = false; file[COMMIT] = false; file[ABORT] = false;
    forget_file(BEGIN); forget_file(CONFIRM); forget_file(COMMIT); forget_file(ABORT);
    bound = 0; bound_sent = 0; bound_renamed = 0; wait = 0;
    fill_over(); check_over()
}

/* As in lease.pml: what can't break the promise any more is taken away, so that states meet. */
inline forget_hopeless()
{
#ifndef PLAIN
#if !defined(REACH_304_AFTER_COMMIT) && !defined(GO_ON)
    if /* fills of the last version are lost: DATA_MATTERS */
    :: db == 1 && fill_lsn == 0 && st_fill_lsn == 0 && filling != 2 && looking == 0 -> nothing_more()
    :: else
    fi;
#endif
    if /* stale for good */
    :: fill_lsn < clock -> version = 0; fill_lsn = 0
    :: else
    fi;
    if
    :: st_fill_lsn < st_clock -> st_version = 0; st_fill_lsn = 0
    :: else
    fi;
    if
    :: looking != 0 && (deadline == 0 || seen_fill_lsn < clock) -> check_over()
    :: else
    fi;
    if
    :: filling != 0 && (step == DOWN || token_inc != inc || token_lsn < clock) -> fill_over()
    :: else
    fi;
    if /* believed by nobody */
    :: step == DOWN && lease == 0 -> lsn = 0; clock = 0; flux = false; version = 0; fill_lsn = 0
    :: else
    fi;
#endif
    skip
}

/* ---- The guard in the daemon's memory ---- */

#ifndef NO_TOMBSTONE
#define MAY_OPEN (!ended)
#else
#define MAY_OPEN true
#endif
inline open() { if :: MAY_OPEN -> flux = true; life = LINGER :: else fi }
inline new_lsn()
{
    lsn++;
    assert(lsn < LSN_FIRST(inc + 1)); /* the model's own: numbers suffice */
    clock = lsn
}
inline close() { flux = false; life = 0 }
inline close_as_commit() { new_lsn(); close(); forget_hopeless() }

inline handle(kind)
{
    if
    :: kind == BEGIN || kind == CONFIRM -> open()
    :: kind == COMMIT -> close_as_commit(); ended = true
    :: kind == ABORT -> close(); ended = true
    fi
}

/* Is the step safe where it is no event, since the guard stands? Not before the guard is. */
#ifndef NO_STANDING_IS_SAFE
#define SAFE_AT_ONCE(kind) false
#else
#define SAFE_AT_ONCE(kind) (flux && (kind == BEGIN || kind == CONFIRM))
#endif

inline give_answer() { if :: request == wanted -> answer = request :: else fi; request = NOTHING; handled = false }
inline handle_request()
{
    if
    :: SAFE_AT_ONCE(request) -> handle(request); give_answer()
    :: else -> handle(request); handled = true
    fi
}

/* spool_scan(): one file, applied once by each incarnation. */
inline take_file(kind)
{
    if
    :: file[kind] && applied[kind] == 0 ->
       if
       :: SAFE_AT_ONCE(kind) -> applied[kind] = 2
       :: else -> applied[kind] = 1
       fi;
       handle(kind)
    :: else
    fi
}
inline find_file(kind)
{
    if
    :: late[kind] -> late[kind] = false; if :: take_file(kind) :: true fi
    :: else -> take_file(kind)
    fi
}
/* All that was found, begins and confirms first. */
inline apply_files()
{
#ifndef NO_SCAN_ORDER
    find_file(BEGIN); find_file(CONFIRM); find_file(COMMIT); find_file(ABORT)
#else /* or the other way round */
    if
    :: true -> find_file(BEGIN); find_file(CONFIRM); find_file(COMMIT); find_file(ABORT)
    :: true -> find_file(ABORT); find_file(COMMIT); find_file(CONFIRM); find_file(BEGIN)
    fi
#endif
}

#define STORE_MATTERS (inc < INCARNATIONS) /* else nobody will read it */
inline file_is_stored(kind) { if :: applied[kind] == 1 -> applied[kind] = 2 :: else fi }
/* All that was done in memory, in one transaction. (A smaller one is this step, taken earlier.) */
inline persist()
{
    if
    :: STORE_MATTERS -> st_clock = clock; st_guard = flux
    :: else
    fi;
    if
    :: handled -> give_answer()
    :: else
    fi;
    file_is_stored(BEGIN); file_is_stored(CONFIRM); file_is_stored(COMMIT); file_is_stored(ABORT);
    forget_hopeless()
}
#ifndef NO_UNLINK_AFTER_PERSIST
#define MAY_UNLINK(kind) (file[kind] && applied[kind] == 2)
#else
#define MAY_UNLINK(kind) (file[kind] && applied[kind] != 0)
#endif
inline unlink_file(kind) { file[kind] = false; applied[kind] = 0 }

/* kill -9. The index stays as it is, and is believed until its lease is over. */
inline crash()
{
    step = DOWN;
    renewal = 0;
    life = 0;
    ended = false;
    request = NOTHING;
    handled = false;
    forget_file(BEGIN); forget_file(CONFIRM); forget_file(COMMIT); forget_file(ABORT);
    forget_hopeless()
}

inline load()
{
    inc++;
    step = WAITING;
    lsn = LSN_FIRST(inc);
    clock = st_clock;
    version = 0;
    fill_lsn = 0;
    flux = st_guard;
    if
    :: flux -> life = LINGER /* counted anew */
    :: else
    fi;
    if
    :: st_fill_lsn != 0 && st_fill_lsn >= st_clock -> version = st_version; fill_lsn = st_fill_lsn
    :: else
    fi;
    if
    :: !STORE_MATTERS -> st_clock = 0; st_version = 0; st_fill_lsn = 0; st_guard = false
    :: else
    fi;
    forget_hopeless()
}

active proctype daemon()
{
end:
    do
    :: d_step { step == DOWN && inc < INCARNATIONS && lease == 0 -> load() } /* the wait of a starting daemon */
    :: d_step { step != DOWN && inc < INCARNATIONS -> crash() }

    /* lease_renew(): clock, scan, lease word. The loop thread does nothing else meanwhile. */
#ifndef NO_CLOCK_BEFORE_SCAN
    :: d_step { step == WAITING || step == SERVING -> renewal = LEASE; step = SCANNING }
    :: atomic { step == SCANNING -> apply_files(); lease = renewal; renewal = 0; step = SERVING }
#else
    :: d_step { step == WAITING || step == SERVING -> step = SCANNING }
    :: atomic { step == SCANNING -> apply_files(); lease = LEASE; step = SERVING }
#endif

    :: d_step { step == SERVING && request != NOTHING && !handled -> handle_request() }
    /* guards_expire() */
    :: d_step {
           step == SERVING && flux && life == 0 -> close_as_commit();
#ifdef NO_TOMBSTONE_OF_WRITER
           ended = true
#endif
       }
    :: d_step { step != DOWN -> persist() }

    :: d_step { step == SERVING && MAY_UNLINK(BEGIN) -> unlink_file(BEGIN) }
    :: d_step { step == SERVING && MAY_UNLINK(CONFIRM) -> unlink_file(CONFIRM) }
    :: d_step { step == SERVING && MAY_UNLINK(COMMIT) -> unlink_file(COMMIT) }
    :: d_step { step == SERVING && MAY_UNLINK(ABORT) -> unlink_file(ABORT) }
    od
}

/* ---- A writer with one guard. Wherever it may go on, it may also vanish ---- */

#define CAN_SEND (step != DOWN && request == NOTHING && answer == NOTHING)
inline send(kind) { request = kind }
inline rename_file(kind) { file[kind] = true; late[kind] = (step == SCANNING) }
inline forget_answer() { answer = NOTHING }

#ifndef NO_CONFIRM_WAIT
#define CONFIRM_WAIT LEASE
#else
#define CONFIRM_WAIT 0
#endif
#ifndef NO_BEGIN_WAIT
#define BEGIN_WAIT LEASE
#else
#define BEGIN_WAIT 0
#endif
#ifndef NO_COMMIT_WAIT
#define COMMIT_WAIT LEASE
#else
#define COMMIT_WAIT 0
#endif

active proctype writer()
{
    /* etag_guard_begin(): sent again after a lost connection; at some time written into the spool, and still sent again */
    wanted = BEGIN;
    do
    :: atomic { CAN_SEND -> send(BEGIN) }
    :: atomic { answer == BEGIN -> forget_answer(); goto begun }
    :: atomic { rename_file(BEGIN); wait = BEGIN_WAIT; break }
    :: goto vanished
    od;
    do
    :: d_step { CAN_SEND -> send(BEGIN) }
    :: atomic { answer == BEGIN || wait == 0 -> wait = 0; forget_answer(); break }
    :: atomic { true -> wait = 0; forget_answer(); goto rolled_back } /* PENDING */
    od;

begun:
    /* etag_guard_confirm(), right before COMMIT. The bound counts from the sending of what was answered, or from the rename. */
    atomic { wanted = CONFIRM; forget_answer() };
    do
    :: d_step { CAN_SEND -> send(CONFIRM); bound_sent = BOUND }
    :: atomic { answer == CONFIRM -> forget_answer(); bound = bound_sent; goto confirmed }
    :: atomic { rename_file(CONFIRM); wait = CONFIRM_WAIT; bound_renamed = BOUND; break }
    :: goto rolled_back /* not confirmed: it must not commit */
    :: goto vanished
    od;
    do
    :: atomic { CAN_SEND -> send(CONFIRM); bound_sent = BOUND }
#ifndef NO_BOUND_OF_THE_ANSWERED
    :: atomic { answer == CONFIRM -> bound = bound_sent; break }
#else
    :: atomic { answer == CONFIRM -> bound = bound_renamed; break }
#endif
#ifndef NO_BOUND_FROM_RENAME
    :: atomic { wait == 0 -> bound = bound_renamed; break }
#else
    :: atomic { wait == 0 -> bound = BOUND; break }
#endif
    :: goto rolled_back
    :: goto vanished
    od;

confirmed:
#ifndef NO_BOUND
    if
    :: atomic { bound > 0 -> committing = true; wait = 0; bound_sent = 0; bound_renamed = 0; forget_answer() }
    :: atomic { bound == 0 -> goto rolled_back }
    :: goto vanished
    fi;
#else
    atomic { committing = true; wait = 0; bound_sent = 0; bound_renamed = 0; bound = 0; forget_answer() };
#endif
    if
    :: atomic { committing = false; db++; bound = 0 }
    :: atomic { committing = false; goto rolled_back }
    fi;

    /* etag_guard_commit() */
    atomic { wanted = COMMIT; forget_answer() };
    do
    :: atomic { CAN_SEND -> send(COMMIT) }
    :: atomic { answer == COMMIT -> goto ok }
    :: atomic { rename_file(COMMIT); wait = COMMIT_WAIT; break }
    :: goto vanished
    od;
    do
    :: atomic { wait == 0 || answer == COMMIT -> break }
    :: goto vanished
    od;
ok:
#ifdef PROMISE_AFTER_OK
    answered = db;
#endif
    goto vanished;

rolled_back: /* etag_guard_abort(): over the socket, through the spool, both, or lost */
#if !defined(PLAIN) && !defined(GO_ON)
    atomic { true -> nothing_more() };
#endif
    atomic { bound = 0; bound_sent = 0; bound_renamed = 0; wait = 0; wanted = NOTHING; forget_answer() };
    do
    :: atomic { CAN_SEND -> send(ABORT); break }
    :: break
    od;
    if
    :: atomic { rename_file(ABORT) }
    :: true
    fi;

vanished:
#if !defined(PLAIN) && !defined(GO_ON)
    atomic { if :: db == 0 -> nothing_more() :: else fi };
#endif
    atomic { bound = 0; bound_sent = 0; bound_renamed = 0; wait = 0; wanted = NOTHING; forget_answer() }
}

/* ---- A filler and a reader ---- */

#if !defined(PLAIN) && !defined(REACH_304_AFTER_COMMIT) /* a last version can't be too old: such a fill is lost */
#define DATA_MATTERS (data == 0)
#else
#define DATA_MATTERS true
#endif

active proctype filler()
{
end:
    do
    :: atomic { filling == 0 && inc > 0 -> token_inc = inc; token_lsn = lsn; filling = 1; forget_hopeless() }
    :: atomic { filling == 1 -> data = db; filling = 2; if :: !DATA_MATTERS -> fill_over() :: else fi }
    :: atomic {
           filling == 2 ->
           if
           :: step == SERVING && token_inc == inc && clock <= token_lsn && !flux ->
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
    :: d_step {
           looking == 0 && fill_lsn != 0 && lease > 0 ->
           deadline = lease; seen_version = version; seen_fill_lsn = fill_lsn; looking = 1
       }
    :: d_step {
           looking == 1 ->
           if
           :: deadline == 0 || flux || clock > seen_fill_lsn /* no lease, in flux, stale: unknown */
           :: else ->
              assert(PROMISE);
#ifdef REACH_304_AFTER_COMMIT /* not vacuous: after a commit whose steps were all files, in a second incarnation, 304 again */
              assert(!(inc == 2 && db == 1 && file[BEGIN] && file[CONFIRM] && file[COMMIT] && seen_version == db));
#endif
           fi;
           check_over()
       }
    od
}

/* ---- Time ---- */

/* The application bounds its COMMIT: it ends, one way or the other, before the bound does. */
#ifndef NO_BOUND
#define IN_BOUND (!committing || bound > 1)
#else
#define IN_BOUND true
#endif
inline count_down(left) { if :: left > 0 -> left-- :: else fi }

active proctype time()
{
end:
    do
    :: d_step {
           IN_BOUND ->
           count_down(lease); count_down(renewal); count_down(deadline);
           count_down(life); count_down(wait);
           count_down(bound); count_down(bound_sent); count_down(bound_renamed);
           forget_hopeless()
       }
    od
}
