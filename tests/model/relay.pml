/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: many hosts on one PostgreSQL. What is proved, for every interleaving:
 *
 *     no 304 on any host carries a version older than the last mutation that was promised before the reader's last look:
 *       "everywhere": the writer's call had returned OK, early (all member hosts have acknowledged) or at T + LNET;
 *       "log":        LNET has passed since COMMIT returned: the same timer, whether or not anybody acknowledged.
 *
 * Two hosts, each with a daemon that may die (warm or cold restart) and a relay that may die or stand still at any step; one
 * database with an outbox, where a commit becomes visible in a step of its own (after its record is in the log), may be lost by
 * a failover before its writer was told and is then done again under the same transaction id, and whose old rows are deleted;
 * hosts that join, and that are put out; one writer, one filler, one reader, each of which chooses its host anew. Partition and
 * delay: each process may rest between any two steps while the others and time go on.
 *
 * Within a host the shared memory is one step (lease.pml proves the reader's steps), and a former index is not believed once
 * the next incarnation answers. The spool is left out: it is the same host's matter. Tokens and clocks: as there is one key,
 * one clock and one filler at a time, "clock > fill LSN" is a bit, and an entry or a fill that can only be refused is
 * forgotten, like a check that can only fail. Taking away is always something that could happen by itself.
 *
 * Time as in lease.pml: what is left until a deadline, in ticks; 0 stays 0. So time has no bound.
 *
 * Each rule stands in an #ifndef NO_...: without it Spin has to find a counter-example.
 */
#define H 2
#ifndef MUTATIONS
#define MUTATIONS 2
#endif
#ifndef LNET /* how long a confirmation of freshness counts, and the writer waits */
#define LNET 1
#endif
#ifndef L    /* the lease in shared memory */
#define L 1
#endif
#ifndef CRASHES
#define CRASHES 1 /* of daemons, together */
#endif
#ifndef FAILOVERS
#define FAILOVERS 1
#endif
#ifndef EXPELS
#define EXPELS 1
#endif
/* The settings of the database: the lease of a poll, and how long a writer waits. -DCHANGE: an operator raises both from 1 to 2, then
 * lowers them; -DRAISE: only the first. */
#ifdef CHANGE
#undef LNET
#define LNET 2 /* the longest */
byte lease_set = 1, wait_set = 1, apart;
byte change;     /* next step of the operator */
byte rl[H];      /* the lease that the poll's snapshot shows */
#define LEASE_SET lease_set
#define LEASE_OF(h) rl[h]
#define WAIT_SET wait_set
#else
#define LEASE_SET LNET
#define LEASE_OF(h) LNET
#define WAIT_SET LNET
#endif
#define LESS(x, d) ((x) > (d) -> (x) - (d) : 0)
#define BIT(m) (1 << ((m) - 1))
#define VISIBLE_SET ((1 << db) - 1)
#define MIN(a, b) ((a) < (b) -> (a) : (b))

/* ---- The database ---- */
byte db;         /* version that a query on the primary sees; outbox rows 1 .. db are visible */
byte trimmed;    /* set: of these, rows that were deleted by retention, as the database says */
#ifndef NO_TRIMMED_WITH_ROWS
#define DELETED trimmed
#else
byte deleted;    /* ... and those that are */
#define DELETED deleted
#endif
byte member[H];  /* 0 none, 1 member, 2 leaving */
byte leaving[H]; /* to go: how long a leaving one must still be waited for */

/* ---- The writer: its mutation is promised + 1. -DWRITER_HOST: it is told to the daemon of this host, whose acknowledgement is not
 *      waited for ---- */
mtype = {IDLE, OPEN, LOGGED, VISIBLE, APPLIED, CLOCKED, WAITING};
mtype w = IDLE;
byte wait;       /* to go: T + LNET */
byte need;       /* set of hosts whose acknowledgement it waits for */
byte acked;      /* set of hosts that have acknowledged */
byte promised;   /* ghost */
#define M (promised + 1)

/* ---- A host: daemon ---- */
bool up[H];
byte lease[H];   /* to go */
byte fresh[H];   /* to go: until when the relay's last confirmation counts */
byte ver[H];     /* the entry: version + 1; 0: none, or stale */
bool has[H];     /* there is a cursor */
byte cur[H];     /* set of rows that were visible in the last applied snapshot */
bool lost[H];    /* its epoch (the witness) is no longer the database's */
byte s_ver[H];   /* the entry in the store */

/* ---- A host: relay ---- */
byte r[H];       /* next step */
byte rt[H];      /* to go: t0 + LNET, where t0 was read before the query was sent */
bool rraise[H];  /* the query brought rows, or continuity is not proven: clocks are to be raised */
byte rset[H];    /* the new cursor */
bool rmember[H]; /* the same snapshot shows this host as a member */
bool rlost[H];   /* a failover came after the query */

/* ---- Filler and reader ---- */
byte f, fh, fdata;
byte q, qh, qdl;
byte version;    /* of a look that has to end without a 304 */

byte crashes, failovers, expels;

#ifdef CHANGE
#define LEASE_FORGOTTEN(h) rl[h] = 0;
#else
#define LEASE_FORGOTTEN(h)
#endif
inline relay_idle(h) { LEASE_FORGOTTEN(h) r[h] = 0; rt[h] = 0; rraise[h] = 0; rset[h] = 0; rmember[h] = 0; rlost[h] = 0 }
inline filler_idle() { f = 0; fh = 0; fdata = 0 }
inline reader_idle() { q = 0; qh = 0; qdl = 0; version = 0 }
inline refuse_fills(h) { if :: f != 0 && fh == h -> filler_idle() :: else fi }

#ifndef NO_ACK_EPOCH
#define OF_THIS_EPOCH(h) (!rlost[h])
#else
#define OF_THIS_EPOCH(h) true
#endif
#ifndef NO_START_WAIT
#define FORMER_LEASE_OVER(h) (lease[h] == 0)
#else
#define FORMER_LEASE_OVER(h) true
#endif
/* Whatever goes wrong goes wrong on one of the hosts: call it 1. Host 0 is then there for its acknowledgements, and nobody asks or fills there. */
#ifndef SYMMETRY
#define OBSERVED(h) 1
#else
#define OBSERVED(h) (h)
#endif
#ifndef ONLY /* which hosts may crash and be put out */
#define MAY(h) true
#else
#define MAY(h) ((h) == ONLY)
#endif

proctype Writer()
{
    do
#if defined(EVENT_BEFORE_VISIBLE) || defined(SEQUENCE_CURSOR) || defined(WAKE_BRINGS_EVENTS) /* else nobody sees these steps */
    :: atomic { w == IDLE && promised < MUTATIONS -> w = OPEN } /* BEGIN; UPDATE; INSERT INTO outbox: the transaction has its id */
    :: atomic { w == OPEN -> w = LOGGED }                       /* its commit record is in the log */
    :: atomic { w == LOGGED -> db = M; w = VISIBLE }            /* it leaves the ProcArray: data and row are visible at once */
#else
    :: atomic { w == IDLE && promised < MUTATIONS -> db = M; w = VISIBLE }
#endif
#ifdef WRITER_HOST
    :: atomic { w == VISIBLE && up[WRITER_HOST] -> /* handed over, once it is applied and recorded there; then it comes into the outbox */
#ifndef NO_OWN_IS_APPLIED
                ver[WRITER_HOST] = 0; s_ver[WRITER_HOST] = 0; refuse_fills(WRITER_HOST);
#endif
                w = APPLIED }
    :: atomic { w == APPLIED ->
#else
    :: atomic { w == VISIBLE -> /* COMMIT has returned: T := clock, then who are the members? */
#endif
#ifdef CHANGE
                wait = LNET; w = CLOCKED }
    :: atomic { w == CLOCKED -> /* some time after T */
                wait = LESS(wait, LNET - WAIT_SET);
#elif !defined(NO_EVERYWHERE_WAIT)
                wait = LNET;
#endif
#ifndef NO_MEMBERS
                need = (member[0] != 0) | ((member[1] != 0) << 1);
#else
                need = 1; /* a list in a configuration file, in which host 1 is missing */
#endif
#ifdef WRITER_HOST
                need = need & ~(1 << WRITER_HOST);
#endif
                w = WAITING }
#if defined(ACKS_ONLY) /* no clock is trusted */
    :: atomic { w == WAITING && (need & ~acked) == 0 -> promised = M; w = IDLE; wait = 0; need = 0; acked = 0 }
#else
    :: atomic { w == WAITING && (wait == 0 || (need & ~acked) == 0) -> promised = M; w = IDLE; wait = 0; need = 0; acked = 0 }
#endif
    /* a failover, or a crash after an asynchronous commit: it is lost before anybody was told; the next one gets the same id */
    :: atomic { (w == VISIBLE || w == APPLIED) && failovers < FAILOVERS -> failovers++;
                db = promised; trimmed = trimmed & VISIBLE_SET;
                lost[0] = has[0]; lost[1] = has[1];
                if :: r[0] >= 2 -> rlost[0] = 1 :: else fi;
                if :: r[1] >= 2 -> rlost[1] = 1 :: else fi;
#ifndef NO_ACK_EPOCH
                acked = 0;
#endif
                w = IDLE }
    od
}

inline query(h)
{
#ifndef EVENT_BEFORE_VISIBLE
    rset[h] = VISIBLE_SET;
#else
    rset[h] = VISIBLE_SET; /* logical decoding: a record in the log is an event, whether or not its data is visible */
    if :: w == LOGGED -> rset[h] = rset[h] | BIT(M) :: else fi;
#endif
    rraise[h] = (rset[h] & ~DELETED & ~cur[h]) != 0;
#ifdef CHANGE
    rl[h] = LEASE_SET;
#endif
#ifdef SEQUENCE_CURSOR /* "id > the last one", or a standby's snapshot: one with a higher number is visible, M is still open */
    if :: w == OPEN || w == LOGGED -> rset[h] = rset[h] | BIT(M) :: skip fi;
#endif
#ifndef NO_FLOOR_AT_FIRST
    if :: !has[h] -> rraise[h] = 1 :: else fi;
#else
    if :: !has[h] -> rraise[h] = 0 :: else fi;
#endif
#ifndef NO_WITNESS
    if :: has[h] && lost[h] -> rraise[h] = 1 :: else fi;
#endif
#ifndef NO_TRIM_CHECK
    if :: has[h] && (trimmed & ~cur[h]) != 0 -> rraise[h] = 1 :: else fi;
#endif
#if !defined(NO_REGISTER) && !defined(NO_MEMBER_IN_SNAPSHOT)
    rmember[h] = (member[h] == 1);
#else
    rmember[h] = 1;
#endif
#ifdef NO_CURSOR_OF_DAEMON /* the relay believes that what it has fetched has arrived */
    has[h] = 1; cur[h] = rset[h]; lost[h] = 0;
#endif
    rlost[h] = 0;
#ifdef SYMMETRY
    if :: h == 0 -> rraise[h] = 0; rmember[h] = 0 :: else fi
#endif
}

#if defined(LAZY_LEASE) || defined(NO_FRESH_LEASE)
#define RENEW(h) skip
#else
#define RENEW(h) lease[h] = MIN(L, fresh[h])
#endif

#if defined(CHANGE) && defined(NO_LEASE_OF_SNAPSHOT)
#define LEASE_USED(h) lease_set /* asked for apart from the poll */
#else
#define LEASE_USED(h) LEASE_OF(h)
#endif

/* The batch takes effect: clocks first ... */
inline apply(h)
{
    if :: rraise[h] -> ver[h] = 0; refuse_fills(h) :: else fi
}

/* ... then it is safe, with the cursor; only then it counts. */
inline settle(h)
{
#ifdef NO_FRESH_BEFORE_POLL
    rt[h] = LNET; /* read when the answer is there */
#endif
    s_ver[h] = ver[h];
    has[h] = 1; cur[h] = rset[h]; lost[h] = rlost[h];
#ifdef SYMMETRY
    if :: h == 0 -> has[h] = 0; cur[h] = 0; lost[h] = 0 :: else fi;
#endif
#ifndef NO_APPLY_FIRST
    if :: rmember[h] -> fresh[h] = LESS(rt[h], LNET - LEASE_USED(h)); RENEW(h) :: else fi;
#endif
    /* the acknowledgement, at the earliest moment at which the writer can have it */
    if
    :: (w == VISIBLE || w == APPLIED || w == CLOCKED || w == WAITING) && (rset[h] & BIT(M)) && OF_THIS_EPOCH(h) -> acked = acked | (1 << h)
    :: else
    fi;
    relay_idle(h)
}

proctype Host(byte h)
{
    do
    /* -- the relay -- */
#ifndef NO_REGISTER
    :: atomic { up[h] && r[h] == 0 && member[h] == 0 -> member[h] = 1 } /* a transaction of its own, before a poll that counts */
#else
    :: atomic { up[h] && r[h] == 0 && member[h] == 0 && lease[h] > 0 -> member[h] = 1 } /* sometime */
#endif
    :: atomic { up[h] && r[h] == 0 -> rt[h] = OBSERVED(h) * LNET; r[h] = 1 } /* t0 := clock; the query is sent */
    :: atomic { r[h] == 1 -> query(h); r[h] = 2 }              /* its snapshot is taken */
#ifdef NO_APPLY_FIRST
    :: atomic { r[h] == 2 && up[h] && rmember[h] -> fresh[h] = rt[h]; RENEW(h); r[h] = 3 }
    :: atomic { r[h] == 3 && up[h] -> apply(h); settle(h) }
#elif defined(SPLIT)
    :: atomic { r[h] == 2 && up[h] -> apply(h);
#ifdef NO_CURSOR_AFTER_EVENTS
                has[h] = 1; cur[h] = rset[h]; lost[h] = rlost[h];
#endif
                r[h] = 3 }
    :: atomic { r[h] == 3 && up[h] -> settle(h) }
#else
    :: atomic { r[h] == 2 && up[h] -> apply(h); settle(h) }
#endif
    :: atomic { r[h] != 0 -> relay_idle(h) } /* it dies, or a connection does */

#ifdef NO_WAKE_PROVES_NOTHING /* a connection that listens, and hears nothing, counts as a read */
    :: atomic { up[h] && has[h] && !lost[h] && member[h] == 1 -> fresh[h] = LNET; RENEW(h) }
#endif
#ifdef WAKE_BRINGS_EVENTS /* a wake-up says which mutation it is for, and is believed: any role may send one, at any time */
    :: atomic { up[h] && has[h] && w == OPEN -> ver[h] = 0; refuse_fills(h); cur[h] = cur[h] | BIT(M) }
#endif

    /* -- the daemon -- */
#ifndef NO_FRESH_LEASE
#ifdef LAZY_LEASE /* else as soon as it may: a shorter lease proves nothing more */
    :: atomic { up[h] && lease[h] < MIN(L, fresh[h]) -> lease[h] = MIN(L, fresh[h]) }
#endif
#else
    :: atomic { up[h] && lease[h] < L -> lease[h] = L }
#endif
    :: atomic { up[h] && crashes < CRASHES && MAY(h) -> crashes++; up[h] = 0; /* killed; its memory is believed yet */
#ifndef NO_BATCH_BINDING
                if :: r[h] != 0 -> relay_idle(h) :: else fi; /* a batch belongs to the connection on which its cursor was told (not needed: see README) */
#endif
                refuse_fills(h) }
    :: atomic { !up[h] && FORMER_LEASE_OVER(h) -> /* starts, warm or cold */
                lease[h] = 0;
#ifndef NO_FRESH_RESET
                fresh[h] = 0;
#else
                fresh[h] = LNET; RENEW(h); /* as if "fresh" were in the store */
#endif
                if
                :: ver[h] = s_ver[h]
                :: ver[h] = 0; s_ver[h] = 0; has[h] = 0; cur[h] = 0; lost[h] = 0
#ifdef NO_BATCH_BINDING
                :: r[h] >= 2 -> ver[h] = s_ver[h]; has[h] = 1; cur[h] = 0; lost[h] = 0 /* an older cursor than the batch was asked with */
#endif
                fi;
                up[h] = 1 }

    /* -- the operator, or another relay: this host has not answered for long -- */
    :: atomic { member[h] == 1 && expels < EXPELS && MAY(h) -> expels++;
#ifndef NO_LEAVING_WAIT
                member[h] = 2; leaving[h] = WAIT_SET
#else
                member[h] = 0
#endif
              }
    :: atomic { member[h] == 2 && leaving[h] == 0 -> member[h] = 0 }
    od
}

proctype Filler()
{
    do
    #ifndef SYMMETRY
    :: atomic { f == 0 && up[0] -> fh = 0; f = 1 } /* its token */
#endif
    :: atomic { f == 0 && up[1] -> fh = 1; f = 1 }
    :: atomic { f == 1 -> fdata = db; f = 2 }      /* its data, from the primary */
#ifdef REPLICA
    :: atomic { f == 1 && db > 0 -> fdata = db - 1; f = 2 } /* from a replica that lags by one */
#endif
    :: atomic { f == 2 -> ver[fh] = fdata + 1; s_ver[fh] = ver[fh]; filler_idle() } /* not refused so far: accepted, and stored */
    :: atomic { f != 0 -> filler_idle() }
    od
}

proctype Reader()
{
    do
#ifdef ATOMIC_READER /* what lies between its steps is proved by lease.pml, and here by the smaller forms */
    :: atomic { lease[0] > 0 && ver[0] != 0 && ver[0] - 1 < promised -> version = ver[0] - 1; assert(version >= promised) }
    :: atomic { lease[1] > 0 && ver[1] != 0 && ver[1] - 1 < promised -> version = ver[1] - 1; assert(version >= promised) }
#else
    :: atomic { q == 0 && lease[0] > 0 -> qh = 0; qdl = lease[0]; q = 1 } /* the deadline */
    :: atomic { q == 0 && lease[1] > 0 -> qh = 1; qdl = lease[1]; q = 1 }
    :: atomic { q == 1 -> /* the look; only a bad one needs to be followed */
#ifdef REACH_304 /* that something is proved at all */
                assert(!(db == MUTATIONS && ver[qh] == MUTATIONS + 1 && promised == MUTATIONS && qh == 1 && crashes == CRASHES && failovers == FAILOVERS && expels == EXPELS && trimmed != 0));
#endif
                if
                :: ver[qh] != 0 && ver[qh] - 1 < promised -> version = ver[qh] - 1; q = 2
                :: else -> reader_idle()
                fi }
    :: atomic { q == 2 -> /* the time, last: not over (see Time), so this is a 304 */
                assert(version >= promised);
                reader_idle() }
#endif
    od
}

#define TICKED(h) if :: up[h] && lease[h] < MIN(L, fresh[h]) -> RENEW(h) :: else fi

inline down(x) { if :: x > 0 -> x-- :: else fi }

#ifdef CHANGE
#define APART apart
#else
#define APART 0
#endif

proctype Time()
{
    do
    :: atomic { (lease[0] | lease[1] | fresh[0] | fresh[1] | rt[0] | rt[1] | wait | leaving[0] | leaving[1] | qdl | APART) != 0 ->
                down(lease[0]); down(fresh[0]); down(rt[0]);
#ifdef CLOCK_STOPS /* the clock of host 1 stands while its machine is paused, and then goes on */
                if
                :: true -> if :: qh == 0 -> down(qdl) :: else fi
                :: true -> down(lease[1]); down(fresh[1]); down(rt[1]); down(qdl)
                fi;
#else
                down(lease[1]); down(fresh[1]); down(rt[1]); down(qdl);
#endif
                TICKED(0); TICKED(1);
                down(wait); down(leaving[0]); down(leaving[1]);
#ifdef CHANGE
                down(apart);
#endif
                if :: q != 0 && qdl == 0 -> reader_idle() :: else fi }
    od
}

/* Retention: a relay deletes rows that are old, and says so in the same transaction. */
proctype Trim()
{
    do
    :: atomic { w != VISIBLE && db >= 1 && !(DELETED & 1) -> DELETED = DELETED | 1 }
#if MUTATIONS > 1
    :: atomic { w != VISIBLE && db >= 2 && !(DELETED & 2) -> DELETED = DELETED | 2 }
#endif
#ifdef NO_TRIMMED_WITH_ROWS
    :: atomic { trimmed != deleted -> trimmed = deleted }
#endif
    od
}

#ifdef CHANGE
/* The operator. A pair of which the wait is shorter than the lease is never to be seen by a writer while a host has that lease. */
proctype Operator()
{
    do
    /* raise */
#ifndef NO_WAIT_RAISED_FIRST
    :: atomic { change == 0 -> wait_set = 2; change = 1 }
    :: atomic { change == 1 -> lease_set = 2; change = 2 }
#else
    :: atomic { change == 0 -> lease_set = 2; change = 1 }
    :: atomic { change == 1 -> wait_set = 2; change = 2 }
#endif
#ifndef RAISE
    /* lower */
#ifndef NO_LEASE_LOWERED_FIRST
    :: atomic { change == 2 -> lease_set = 1; change = 3;
#ifndef NO_OLD_WAIT_APART
                apart = wait_set
#endif
              }
    :: atomic { change == 3 && apart == 0 -> wait_set = 1; change = 4 }
#else
    :: atomic { change == 2 -> wait_set = 1; change = 3 }
    :: atomic { change == 3 -> lease_set = 1; change = 4 }
#endif
#endif
    od
}
#endif

init
{
    atomic {
        up[0] = 1; up[1] = 1;
        run Writer(); run Host(0); run Host(1); run Filler(); run Reader(); run Time(); run Trim()
#ifdef CHANGE
        ; run Operator()
#endif
    }
}
