/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease, the spool, fills and restarts (rules of docs/consistency.md). What is proved, for
 * every interleaving:
 *
 *     no 304 carries a version older than the last mutation whose call had returned OK
 *     before the reader's last look at the shared memory
 *
 * which is a little more than the promise to writers ("before the check began": -DPROMISE_AT_BEGIN
 * checks exactly that).
 *
 * One row of a database, one key, one version clock. A writer, a filler, a reader, a daemon that dies anywhere and starts
 * again. A stall needs no model: each process may rest between any two of its steps while the others and time go on.
 *
 * Time has no bound: nothing holds a time of day, only what is left until one. A deadline that was made or copied is a number
 * of ticks to go, and each tick takes one off all of them; 0 means "now >= deadline", and stays 0. The comparison "now <
 * deadline" is "> 0". So the states are finite and the time is not.
 *
 * So that states meet, forget_hopeless() takes away what can no longer break the promise: each line says why. Taking away is
 * always something that could happen by itself (an eviction, a lost fill, a check given up), so it cannot make an error;
 * that it hides none is checked with -DPLAIN, which leaves it out. Where a line rests on a rule, it goes with the rule.
 *
 * An event is safe when the store has it, or the journal: a file beside the socket that the loop thread writes itself, in the
 * same turn. Both outlive a killed daemon; the journal may vanish between two runs. It may have no room: then the answer waits for
 * the store. A run without a journal, which the meta record says, is one whose journal had no room and did not vanish.
 *
 * Each rule stands in an #ifndef NO_...: with that macro defined the rule is missing and Spin has to find a counter-example.
 */

#ifndef INCARNATIONS
#define INCARNATIONS 2 /* runs of the daemon: one crash less */
#endif
#ifndef MUTATIONS
#define MUTATIONS 2
#endif
#ifndef L1 /* the lease of each incarnation, in ticks */
#define L1 1
#endif
#ifndef L2
#define L2 L1
#endif
#ifndef L3
#define L3 L1
#endif
#ifndef OTHERS
#define OTHERS 0 /* mutations of other targets, which raise the LSN and not the clock */
#endif
#define LEASE_OF(i) ((i) == 1 -> L1 : ((i) == 2 -> L2 : L3))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* LSN: the incarnation's durable number, then a counter (cache.h). 0: none. */
#define LSN_FIRST(number) ((number) * 8)

/* ---- The database and what was promised ---- */

byte db;       /* the version that a query sees */
byte answered; /* ghost: the last mutation whose call returned OK */

/* ---- Shared memory: one index an incarnation; a dead daemon's stays mapped where it was ---- */

typedef memory {
    bool published; /* somebody may have mapped it */
    byte lease;     /* to go */
    byte lsn;
    byte clock;
    byte version;  /* the entry: its version */
    byte fill_lsn; /* and fill LSN; 0: no entry */
}
memory mem[INCARNATIONS + 1];

/* ---- What survives the daemon ---- */

byte st_number; /* the store: the incarnation's number */
byte st_clock;  /* highest LSN of a persisted event (log and checkpoints) */
byte st_version;
byte st_fill_lsn;
bool st_incomplete;        /* a write of events failed; this mark is durable */
bool jr;                   /* the journal is there, of the run that the store's meta record names, by its nonce */
byte jr_clock;             /* highest LSN in it */
mtype = {NOTHING, BOOT, FILE, WITNESS, CLOCKS};
mtype st_lost = NOTHING;   /* the store lost events between two runs, and this is how it shows */
#ifndef ALL_FILE
bool spool[MUTATIONS + 1]; /* a file of this mutation stands in the spool */
#define SPOOL_PUT(m) spool[m] = true
#else
byte all, taken;           /* no name was free: every mutation goes to the one name that means "purge everything". Whose file it is */
#define SPOOL_PUT(m) all = m
#endif
#ifdef ROLE /* a reload takes the writer's role away, once, and another one may give it back; a mutation of ALL_FILE is one file as well, so that is left out */
bool named = true;         /* the mark names the writer */
byte changes;              /* and says how often somebody stopped counting */
bool former;               /* the file "former" names it */
#endif
byte mark = L1;            /* the L recorded beside the lock and in the spool's mark */

/* ---- The daemon ---- */

mtype = {DOWN, STARTING_1, STARTING_2, STARTING_3, WAITING, RENEWING_1, RENEWING_2, SERVING};
mtype step = DOWN;
byte inc;        /* the incarnation's random id: never the same twice */
byte number;     /* its durable number */
byte start_wait; /* to go */
byte renewal;    /* clock reading + L, to go */
byte safe;       /* LSNs up to this are in the store, or the state is marked */
bool cold;       /* while it starts: the state is not used */
byte others;
byte file_lsn[MUTATIONS + 1]; /* the LSN under which a spool file was applied, until its completion; 0: not by this incarnation */
#ifdef ALL_FILE
byte all_known; /* the file that was applied where it was, under the name that writers replace */
#endif
#ifdef ROLE
bool former_counts; /* in the next scan */
#endif
#ifdef NO_FORGET_AT_UNLINK
bool stale_known; /* an inode that is free again is remembered as a file whose event is safe */
#endif

bool request;     /* on the writer's connection */
byte request_lsn; /* applied under it; 0: not yet */
bool answer;      /* on its way to the writer, or there */

/* ---- What the filler and the reader hold between their steps ---- */

byte filling;                     /* the filler's next step */
byte token_inc, token_lsn, data;  /* its token; the version that it read */
inline fill_over() { filling = 0; token_inc = 0; token_lsn = 0; data = 0 }

byte looking;                     /* the reader's next step */
byte mapped;                      /* the incarnation whose index it has */
byte deadline;                    /* to go */
byte version, fill_lsn, clock;    /* its copies */
byte promised;                    /* ghost */
inline check_over() { looking = 0; mapped = 0; deadline = 0; version = 0; fill_lsn = 0; clock = 0; promised = 0 }

inline forget_entry(i) { mem[i].version = 0; mem[i].fill_lsn = 0 }

#ifndef PLAIN
#if !defined(NO_CLOCK_TEST) && !defined(NO_CLOCKS_AFTER_SLOT) && !defined(NO_TIME_LAST) && !defined(NO_DEADLINE_FIRST)
#define FORGET_CHECKS
#endif
#if !defined(NO_CLOCK_TEST) && !defined(NO_CLOCKS_AFTER_SLOT)
#define FORGET_ENTRIES
#endif
#if defined(FORGET_ENTRIES) && !defined(NO_COLD_BY_BOOT) && !defined(NO_COLD_BY_FILE) && !defined(NO_COLD_BY_WITNESS) && !defined(NO_COLD_BY_CLOCKS)
#define FORGET_STORED_ENTRIES
#endif
#if !defined(NO_INCARNATION_TEST) && !defined(NO_TOKEN) && !defined(NO_TOKEN_TEST)
#define FORGET_TOKENS
#endif
#ifndef NO_TIME_LAST
#define FORGET_DEAD
#endif
#ifndef NO_COLD_START
#define FORGET_COLD
#endif
#if !defined(NO_JOURNAL_STORED_FIRST) && !defined(NO_MARK_ONLY_WHEN_COMPLETE)
#define FORGET_STORED
#endif
#ifndef REACH_WARM_304
#define FORGET_LAST_VERSION /* it can't be too old */
#endif
#endif

inline forget_state() { st_clock = 0; st_version = 0; st_fill_lsn = 0 }
inline forget_journal() { jr = false; jr_clock = 0 }

#define STORE_MATTERS (inc < INCARNATIONS) /* else nobody will read it */

/* cold_reason(): a state that may lack an event is not used. */
#ifndef NO_COLD_START
#define COLD_BY_MARK (st_incomplete)
#else
#define COLD_BY_MARK false
#endif
#ifndef NO_COLD_BY_BOOT /* after a machine crash: without fsync any commit may be gone */
#define COLD_BY_BOOT (st_lost == BOOT)
#else
#define COLD_BY_BOOT false
#endif
#ifndef NO_COLD_BY_FILE /* a copy, a restored file: another inode or birth time */
#define COLD_BY_FILE (st_lost == FILE)
#else
#define COLD_BY_FILE false
#endif
#ifndef NO_COLD_BY_WITNESS /* restored bytes in the same file: the nonce beside the socket is another run's, or none */
#define COLD_BY_WITNESS (st_lost == WITNESS)
#else
#define COLD_BY_WITNESS false
#endif
#ifndef NO_COLD_BY_CLOCKS /* another number of clocks: a checkpoint's clocks are nobody's */
#define COLD_BY_CLOCKS (st_lost == CLOCKS)
#else
#define COLD_BY_CLOCKS false
#endif
#ifndef NO_JOURNAL_IS_A_CONDITION
#define COLD_BY_JOURNAL (!jr)
#else
#define COLD_BY_JOURNAL false
#endif
#ifndef NO_JOURNAL_REPLAYED
#define JOURNAL_CLOCK (jr -> jr_clock : 0)
#else
#define JOURNAL_CLOCK 0
#endif
#define COLD (COLD_BY_MARK || COLD_BY_BOOT || COLD_BY_FILE || COLD_BY_WITNESS || COLD_BY_CLOCKS || COLD_BY_JOURNAL)

inline forget_hopeless()
{
#ifdef FORGET_ENTRIES
    if /* what is stale in an index stays stale there */
    :: mem[inc].fill_lsn < mem[inc].clock -> forget_entry(inc)
    :: else
    fi;
#endif
#ifdef FORGET_STORED_ENTRIES
    if /* and in the store, unless it loses the event again and is believed all the same */
    :: st_fill_lsn < st_clock -> st_version = 0; st_fill_lsn = 0
    :: else
    fi;
#endif
#ifdef FORGET_STORED
    if /* the journal's space is free for reuse, and reused */
    :: jr_clock <= st_clock || st_incomplete -> jr_clock = 0
    :: else
    fi;
#endif
#ifdef FORGET_CHECKS
    if /* so will a check of that entry say, and one whose lease is over */
    :: looking != 0 && (deadline == 0 || (looking == 2 && mapped == inc && fill_lsn < mem[inc].clock)) -> check_over()
    :: else
    fi;
#endif
#ifdef FORGET_TOKENS
    if /* a token of a dead incarnation, or below the clock, will be refused */
    :: filling != 0 && (token_inc != inc || step == DOWN || token_lsn < mem[inc].clock) -> fill_over()
    :: else
    fi;
    if
    :: step == DOWN -> mem[inc].lsn = 0
    :: else
    fi;
#endif
#ifdef FORGET_COLD
    if /* all of it will be thrown away, whatever the reason */
    :: step == DOWN && COLD ->
       forget_state(); forget_journal(); st_lost = NOTHING; st_incomplete = true
    :: else
    fi;
#endif
#ifdef FORGET_DEAD
    if /* a dead daemon's lease is never renewed: once it is over nobody believes what stands beside it */
    :: (inc != 1 || step == DOWN) && mem[1].lease == 0 -> mem[1].clock = 0; forget_entry(1)
    :: else
    fi;
#if INCARNATIONS > 1
    if
    :: (inc != 2 || step == DOWN) && mem[2].lease == 0 -> mem[2].clock = 0; forget_entry(2)
    :: else
    fi;
#endif
#endif
    skip
}

/* cache_apply(): the clock, then the LSN word. One target, so one clock. */
inline apply(given_lsn)
{
    given_lsn = mem[inc].lsn + 1;
    assert(given_lsn < LSN_FIRST(number + 1)); /* the model's own: numbers suffice */
    mem[inc].clock = MAX(mem[inc].clock, given_lsn);
    mem[inc].lsn = given_lsn;
    if /* the mark says already that the store lacks something */
    :: st_incomplete -> safe = mem[inc].clock
    :: else
    fi;
    forget_hopeless()
}

/* Both locks are ours: the former daemon is dead. recovery_open(), recovery_load(), lease_init(). What is durable is changed in
 * three steps, and the daemon may die after each. */
inline start()
{
    inc++;
    /* Rule START_WAIT. The wait is counted from here: the larger of the own and the recorded L. */
    start_wait = MAX(LEASE_OF(inc), mark);
#ifdef NO_START_WAIT
    start_wait = 0;
#endif
#ifdef NO_RECORDED_LEASE
    start_wait = LEASE_OF(inc);
#endif
    /* The mark never says less than a lease that still runs. */
    mark = MAX(LEASE_OF(inc), mark);
#ifdef NO_MARK_KEPT_IN_WAIT
    mark = LEASE_OF(inc);
#endif
    number = st_number + 1;
    cold = COLD;
    mem[inc].lsn = LSN_FIRST(number);
    if
    :: cold -> skip
    :: else ->
       mem[inc].clock = MAX(st_clock, JOURNAL_CLOCK);
       if /* cache_load(): the rule of fills */
       :: st_fill_lsn != 0 && st_fill_lsn >= mem[inc].clock ->
          mem[inc].version = st_version;
          mem[inc].fill_lsn = st_fill_lsn
       :: else
       fi
    fi;
    safe = mem[inc].clock;
#ifdef ROLE
    former_counts = former;
#endif
    step = STARTING_1
}

/* The journal's events go into the store, before it is told of a new run, which forgets the journal. */
inline start_store()
{
    if
    :: cold -> forget_state()
#ifndef NO_JOURNAL_STORED_FIRST
    :: else -> st_clock = mem[inc].clock
#else
    :: else
#endif
    fi;
    step = STARTING_2
}

/* The meta record: the incarnation's number and nonce, warm again. From here on the former journal is nobody's. */
inline start_meta()
{
#ifndef NO_INCARNATION_FIRST
    st_number = number;
#endif
    st_incomplete = false;
    st_lost = NOTHING;
    cold = false;
    forget_journal();
    if
    :: STORE_MATTERS -> step = STARTING_3
    :: else -> forget_state(); step = WAITING
    fi
}

/* The journal is begun anew, under the new nonce. */
inline start_journal()
{
    jr = true;
    step = WAITING
}

inline read_clock()
{
    renewal = LEASE_OF(inc);
    mark = LEASE_OF(inc) /* the start's wait is over: no longer lease runs */
}

#ifdef ROLE
#define COUNTS (named || former_counts)
#else
#define COUNTS true
#endif
#if MUTATIONS > 1
#define FILES_WAIT (file_lsn[1] != 0 || file_lsn[2] != 0)
#else
#define FILES_WAIT (file_lsn[1] != 0)
#endif

/* Every file, under an LSN of its own. Again only after a restart: what this incarnation applied is in its clock. */
inline scan_spool()
{
#ifdef NO_SCAN_AT_RENEWAL
    if :: !mem[inc].published ->
#endif
#ifdef NO_SCAN_AT_START
    if :: mem[inc].published ->
#endif
#ifndef ALL_FILE
    for (file : 1 .. MUTATIONS) {
        if
#ifndef NO_KNOWN_FIRST
        :: spool[file] && file_lsn[file] == 0 && !COUNTS -> spool[file] = false
#else
        :: spool[file] && !COUNTS -> spool[file] = false; file_lsn[file] = 0
#endif
#ifdef NO_FORGET_AT_UNLINK
        :: spool[file] && file_lsn[file] == 0 && stale_known -> spool[file] = false; stale_known = false
        :: spool[file] && file_lsn[file] == 0 && !stale_known -> apply(file_lsn[file])
#else
        :: spool[file] && file_lsn[file] == 0 && COUNTS -> apply(file_lsn[file])
#endif
        :: else
        fi
    }
    file = 0;
#ifdef ROLE /* spool_dir_scanned() */
    former_counts = false;
    if
    :: former && (named || !FILES_WAIT) -> former = false /* some_are_owed() */
    :: else
    fi
#endif
#else
    if
    :: taken != 0 && file_lsn[taken] == 0 -> apply(file_lsn[taken])
    :: else
    fi;
    if
    :: all != 0 && file_lsn[all] == 0 ->
#if defined(NO_TAKEN)
       all_known = all
#elif defined(NO_WAITING_KEPT) || defined(NO_GENERATION)
       taken = all; all = 0
#else /* out of the writers' reach first: they rename over it. Where an older one waits there, it stays where it is */
       if
       :: taken == 0 -> taken = all; all = 0
       :: else -> all_known = all
       fi
#endif
       ;
       if
       :: all != 0 -> apply(file_lsn[all])
       :: else -> apply(file_lsn[taken])
       fi
    :: else
    fi
#endif
#if defined(NO_SCAN_AT_RENEWAL) || defined(NO_SCAN_AT_START)
    :: else fi
#endif
}

/* kill -9: the memory and the store stay as they are, connections are gone. */
inline crash()
{
    step = DOWN;
    start_wait = 0;
    renewal = 0;
    safe = 0;
    request = false;
    request_lsn = 0;
    cold = false;
    for (file : 1 .. MUTATIONS) {
        file_lsn[file] = 0
    }
    file = 0;
#ifdef ROLE
    former_counts = false;
#endif
#ifdef NO_FORGET_AT_UNLINK
    stale_known = false;
#endif
#ifdef ALL_FILE
    all_known = 0;
#ifdef NO_TAKEN_READ
    taken = 0; /* nobody looks at it again */
#endif
#endif
    forget_hopeless()
}

#ifndef NO_PERSIST_BEFORE_ANSWER
#define EVENT_IS_SAFE(event_lsn) (safe >= event_lsn || jr_clock >= event_lsn)
#else
#define EVENT_IS_SAFE(event_lsn) true
#endif
#ifndef NO_UNLINK_AFTER_PERSIST
#define MAY_UNLINK(m) (file_lsn[m] != 0 && EVENT_IS_SAFE(file_lsn[m]))
#else
#define MAY_UNLINK(m) (file_lsn[m] != 0)
#endif

#ifdef NO_FORGET_AT_UNLINK
#define INODE_IS_FREE stale_known = true
#else
#define INODE_IS_FREE skip
#endif

/* spool_file_done() of the event of one file: the completion comes later than the event, and what has the name may be another file. */
#ifndef ALL_FILE
#define MAY_COMPLETE(m) MAY_UNLINK(m)
inline complete(m)
{
    if
    :: spool[m] -> spool[m] = false; INODE_IS_FREE
    :: else
    fi;
    file_lsn[m] = 0
}
#else
#define MAY_COMPLETE(m) (MAY_UNLINK(m) && !(all_known == m && taken != 0)) /* one that waits in taken goes first */
inline complete(m)
{
    if
#ifdef NO_TAKEN
    :: all_known == m -> all = 0; all_known = 0; file_lsn[m] = 0 /* whatever has the name by now */
#else
    :: all_known == m -> /* taken first, and then looked at: a newer one waits there for the next scan */
       taken = all; all = 0; all_known = 0;
       if
       :: taken != m -> file_lsn[m] = 0
       :: else
       fi
#endif
#if !defined(NO_GENERATION_TEST) && !defined(NO_GENERATION)
    :: all_known != m && taken == m -> taken = 0; file_lsn[m] = 0
    :: all_known != m && taken != m -> file_lsn[m] = 0
#else
    :: all_known != m -> taken = 0; file_lsn[m] = 0
#endif
    fi
}
#endif

#define RUNNING (step == WAITING || step == RENEWING_1 || step == RENEWING_2 || step == SERVING)

active proctype daemon()
{
    byte file;

end:
    do
    :: d_step { step == DOWN && inc < INCARNATIONS -> start() }
    :: d_step { step == STARTING_1 -> start_store() }
    :: d_step { step == STARTING_2 -> start_meta() }
    :: d_step { step == STARTING_3 -> start_journal() }
    :: d_step { step != DOWN && inc < INCARNATIONS -> crash() }

    /* Between two runs: the journal is removed; the machine crashes, a copy takes the store's place... */
    :: d_step { step == DOWN && jr -> forget_journal(); forget_hopeless() }
    :: atomic {
           step == DOWN && st_lost == NOTHING && st_clock != 0 && inc < INCARNATIONS ->
           st_clock = 0;
           if
           :: st_lost = BOOT
           :: st_lost = FILE
           :: st_lost = WITNESS
           :: st_lost = CLOCKS
           fi;
           forget_hopeless()
       }

    /* Rules CLOCK_BEFORE_SCAN and SCAN_AT_RENEWAL, lease_renew(): clock, scan, lease word. The loop
     * thread does nothing else meanwhile. */
    :: d_step {
           step == SERVING || (step == WAITING && start_wait == 0) ->
#ifndef NO_CLOCK_BEFORE_SCAN
           read_clock();
#else
           scan_spool();
#endif
           step = RENEWING_1
       }
    :: d_step {
           step == RENEWING_1 ->
#ifndef NO_CLOCK_BEFORE_SCAN
           scan_spool();
#else
           read_clock();
#endif
           step = RENEWING_2
       }
    :: d_step {
           step == RENEWING_2 ->
           mem[inc].lease = renewal;
           renewal = 0;
           mem[inc].published = true; /* the first accept comes after the first renewal */
           step = SERVING
       }

    /* handle_invalidate(), then answers_send() when the persister says so. */
    :: d_step { step == SERVING && request && request_lsn == 0 -> apply(request_lsn) }
    :: d_step {
           step == SERVING && request_lsn != 0 && EVENT_IS_SAFE(request_lsn) ->
           answer = true;
           request = false;
           request_lsn = 0
       }

#if OTHERS > 0
    :: d_step { step == SERVING && others < OTHERS -> others++; mem[inc].lsn++ }
#endif

    /* journal_append(): in the turn of the event, or never (no room). */
    :: d_step { RUNNING && jr && mem[inc].clock > safe -> jr_clock = mem[inc].clock }
    /* Its space is reused after the store has its events: see FORGET_STORED. */
#ifdef NO_RECYCLE_AFTER_STORE
    :: d_step { RUNNING && jr -> jr_clock = 0 }
#endif

    /* The persister's thread, write_events(): all that was applied, in one transaction. (A shorter one is this step, taken
     * earlier.) Or the write fails: then the state is marked, durably, before anybody gets an answer by it. */
    :: d_step {
           RUNNING && mem[inc].clock > safe ->
           safe = mem[inc].clock;
           if
           :: STORE_MATTERS -> st_clock = safe
           :: else
           fi;
           forget_hopeless()
       }
    :: d_step {
           RUNNING && mem[inc].clock > safe && STORE_MATTERS ->
           safe = mem[inc].clock;
           st_incomplete = true;
           forget_hopeless()
       }
    /* The disk has room again: all that was kept is written; then the mark may go, unless another event was answered on its
     * strength meanwhile. */
    :: d_step { RUNNING && st_incomplete && st_clock < mem[inc].clock -> st_clock = mem[inc].clock; forget_hopeless() }
#ifndef NO_MARK_ONLY_WHEN_COMPLETE
    :: d_step { RUNNING && st_incomplete && st_clock >= safe -> st_incomplete = false }
#else
    :: d_step { RUNNING && st_incomplete -> st_incomplete = false }
#endif
#ifdef NO_INCARNATION_FIRST
    :: d_step { step != DOWN && st_number != number -> st_number = number }
#endif

    /* Rule UNLINK_AFTER_PERSIST: a file goes when its event is safe. */
    :: d_step { step == SERVING && MAY_COMPLETE(1) -> complete(1) }
#if MUTATIONS > 1
    :: d_step { step == SERVING && MAY_COMPLETE(2) -> complete(2) }
#endif
#if MUTATIONS > 2
    :: d_step { step == SERVING && MAY_COMPLETE(3) -> complete(3) }
#endif
#ifdef ROLE /* SIGHUP: first the file "former", then the mark */
    :: d_step {
           step == SERVING && named && changes == 0 -> named = false; changes++; former_counts = true;
#ifndef NO_FORMER_KEPT
           former = true
#endif
       }
    :: d_step { step == SERVING && !named -> named = true }
#endif
    od
}

/* ---- A writer: commits a version, then invalidates (etag_invalidate) ---- */

byte wait; /* T + L, to go */
#ifdef SPLIT_MARK /* between T and the reading of the mark time may pass */
bool reading_mark;
byte since_t;
#endif

#ifndef NO_CHANGES_COUNTED
#define CHANGED (changes != seen_changes)
#else
#define CHANGED false
#endif
#ifndef NO_WRITER_WAIT
#define WAIT_IS_OVER (wait == 0)
#else
#define WAIT_IS_OVER true
#endif

/* Nobody waits for it any more. A request that still lies in the socket goes on: once the next version is committed, it is
 * as good as a request for that one. */
inline forget_answer()
{
    answer = false;
    if
    :: request_lsn != 0 -> request = false; request_lsn = 0
    :: else
    fi
}

inline call_returned() { wait = 0; forget_answer() }

active proctype writer()
{
    byte mutation;
    byte length; /* the L that it waits for */
#ifdef ROLE
    byte seen_changes; /* in the mark before the rename */
#endif

next:
    do
    :: atomic {
           mutation < MUTATIONS -> forget_answer(); mutation++; db = mutation;
#ifdef NO_MARK_READ_AFTER_RENAME
           length = mark /* as a hello said once */
#endif
       };
       do /* over the socket, again after a lost connection */
       :: d_step { step != DOWN && mem[inc].published && !request && !answer -> request = true }
       :: atomic { answer -> answered = mutation; call_returned(); goto next }
       :: atomic { true -> call_returned(); goto next } /* an error, or the writer died: nothing was promised */
       /* Rules RENAME_BEFORE_CLOCK, MARK_READ_AFTER_RENAME and WRITER_WAIT. No answer, for whatever
        * reason: rename, then T := clock, then wait for the L that the spool's mark says by then. */
#if defined(ROLE) /* spool_write(): a mark that does not name it ends the call */
       :: atomic { named -> seen_changes = changes; break }
#elif !defined(NO_RENAME_BEFORE_CLOCK)
       :: atomic { true -> SPOOL_PUT(mutation); break }
#else
       :: atomic { true -> wait = mark; break }
#endif
       od;
#ifdef ROLE
       SPOOL_PUT(mutation);
#endif
#if defined(NO_RENAME_BEFORE_CLOCK)
       SPOOL_PUT(mutation);
#elif defined(NO_MARK_READ_AFTER_RENAME)
       atomic { wait = length; length = 0 };
#elif defined(SPLIT_MARK)
       reading_mark = true;
       atomic { wait = (mark > since_t -> mark - since_t : 0); reading_mark = false; since_t = 0 };
#elif defined(ROLE) /* read_after_rename(): a mark that does not name it promises nothing, nor does one that changed meanwhile */
       atomic { wait = mark; if :: !named || CHANGED -> seen_changes = 0; call_returned(); goto next :: else -> seen_changes = 0 fi };
#else
       wait = mark;
#endif
       if
       :: atomic { WAIT_IS_OVER || answer -> answered = mutation; call_returned() }
       :: atomic { true -> call_returned() } /* ETAG_PENDING */
       fi
    :: else -> break
    od
}

/* ---- A filler: token, data, fill (etag_token_now, the application, etag_fill) ---- */

/* cache_fill(), in the daemon that is there when the fill arrives. */
#ifndef NO_INCARNATION_TEST
#define TOKEN_IS_OURS (token_inc == inc)
#else
#define TOKEN_IS_OURS true
#endif
#if !defined(NO_TOKEN) && !defined(NO_TOKEN_TEST)
#define TOKEN_TEST (mem[inc].clock <= token_lsn)
#else
#define TOKEN_TEST true
#endif
#if !defined(NO_TOKEN) && !defined(NO_TOKEN_KEPT)
#define FILL_LSN token_lsn
#else
#define FILL_LSN mem[inc].lsn
#endif
#ifdef FORGET_LAST_VERSION
#define DATA_MATTERS (data != MUTATIONS)
#else
#define DATA_MATTERS true
#endif

inline take_token()
{
    if /* of any index that was ever published: nobody tells a front end that its daemon died */
    :: mem[1].published -> token_inc = 1
#if INCARNATIONS > 1
    :: mem[2].published -> token_inc = 2
#endif
#if INCARNATIONS > 2
    :: mem[3].published -> token_inc = 3
#endif
    fi;
    token_lsn = mem[token_inc].lsn
}
inline read_data() { data = db }

active proctype filler()
{
end:
    do
#ifndef NO_TOKEN_FIRST
    :: atomic { filling == 0 -> take_token(); filling = 1; forget_hopeless() }
    :: atomic { filling == 1 -> read_data(); if :: DATA_MATTERS -> filling = 2 :: else -> fill_over() fi }
#else
    :: atomic { filling == 0 -> read_data(); filling = 1 }
    :: atomic { filling == 1 -> take_token(); filling = 2 }
#endif
    :: atomic {
           filling == 2 ->
           if
           :: step == SERVING && !st_incomplete && TOKEN_IS_OURS && TOKEN_TEST ->
              mem[inc].version = data;
              mem[inc].fill_lsn = FILL_LSN;
              if /* write_entries(): lazily or never. (Later is no other case: only a restart sees the difference.) */
              :: STORE_MATTERS -> st_version = mem[inc].version; st_fill_lsn = mem[inc].fill_lsn
              :: true
              fi
           :: true /* refused or lost */
           fi;
           fill_over()
       }
    od
}

/* ---- A reader: etag_check() ---- */

/* What is in the memory counts from the last look at it. */
#ifndef PROMISE_AT_BEGIN
#define LOOK promised = answered
#define BEGIN skip
#else
#define LOOK skip
#define BEGIN promised = answered
#endif

inline begin()
{
    if /* as for tokens */
    :: mem[1].published -> mapped = 1
#if INCARNATIONS > 1
    :: mem[2].published -> mapped = 2
#endif
#if INCARNATIONS > 2
    :: mem[3].published -> mapped = 3
#endif
    fi;
    BEGIN
}

#define LOAD_DEADLINE deadline = mem[mapped].lease                                      /* shm_lease_load() */
#define COPY_SLOT version = mem[mapped].version; fill_lsn = mem[mapped].fill_lsn; LOOK  /* shm_find() */
#define LOAD_CLOCK clock = mem[mapped].clock; LOOK                                      /* shm_newer_clock() */
#define LEASE_IS_OVER (deadline == 0)                                                   /* lease_is_over() */
#define NO_ENTRY (fill_lsn == 0)
#ifndef NO_CLOCK_TEST
#define CLOCK_IS_NEWER (clock > fill_lsn)
#else
#define CLOCK_IS_NEWER false
#endif
#ifdef FORGET_LAST_VERSION /* good enough: breaks no promise, whatever the time says */
#define CANT_BREAK (version >= promised)
#else
#define CANT_BREAK false
#endif

/* To the next step, or to the 304. */
inline go_on(unknown)
{
    if
    :: unknown -> check_over()
    :: else ->
       looking++;
       if
       :: looking == 4 ->
          assert(version >= promised);
#ifdef REACH_WARM_304 /* not vacuous: a restart's entry, loaded warm, still answers 304 after every mutation's OK */
          assert(!(mapped == 2 && answered == MUTATIONS && mem[2].fill_lsn != 0 && mem[2].fill_lsn < LSN_FIRST(2)));
#endif
          check_over()
       :: else
       fi
    fi
}

active proctype reader()
{
end:
    do
#if defined(NO_DEADLINE_FIRST)
    :: atomic { looking == 0 -> begin(); COPY_SLOT; go_on(NO_ENTRY) }
    :: d_step { looking == 1 -> LOAD_CLOCK; go_on(CLOCK_IS_NEWER) }
    :: d_step { looking == 2 -> LOAD_DEADLINE; go_on(false) }
    :: d_step { looking == 3 -> go_on(LEASE_IS_OVER) }
#elif defined(NO_CLOCKS_AFTER_SLOT)
    :: atomic { looking == 0 -> begin(); LOAD_DEADLINE; go_on(false) }
    :: d_step { looking == 1 -> LOAD_CLOCK; go_on(false) }
    :: d_step { looking == 2 -> COPY_SLOT; go_on(NO_ENTRY || CLOCK_IS_NEWER) }
    :: d_step { looking == 3 -> go_on(LEASE_IS_OVER) }
#elif defined(NO_TIME_LAST)
    :: atomic { looking == 0 -> begin(); LOAD_DEADLINE; go_on(false) }
    :: d_step { looking == 1 -> go_on(LEASE_IS_OVER) }
    :: d_step { looking == 2 -> COPY_SLOT; go_on(NO_ENTRY) }
    :: d_step { looking == 3 -> LOAD_CLOCK; go_on(CLOCK_IS_NEWER) }
#else
    /* Rules DEADLINE_FIRST, CLOCKS_AFTER_SLOT and TIME_LAST: deadline, slot, clocks, time. */
    :: atomic { looking == 0 -> begin(); LOAD_DEADLINE; go_on(false); forget_hopeless() }
    :: d_step { looking == 1 -> COPY_SLOT; go_on(NO_ENTRY) }
    :: d_step { looking == 2 -> LOAD_CLOCK; go_on(CLOCK_IS_NEWER || CANT_BREAK); fill_lsn = 0; clock = 0 }
    :: d_step { looking == 3 -> go_on(LEASE_IS_OVER) }
#endif
    od
}

/* ---- Time ---- */

inline count_down(left) { if :: left > 0 -> left-- :: else fi }

active proctype time()
{
end:
    do
    :: d_step {
           count_down(start_wait);
#ifdef SPLIT_MARK
           if
           :: reading_mark && since_t < 3 -> since_t++
           :: else
           fi;
#endif
           count_down(renewal);
           count_down(wait);
           count_down(deadline);
           count_down(mem[1].lease);
#if INCARNATIONS > 1
           count_down(mem[2].lease);
#endif
#if INCARNATIONS > 2
           count_down(mem[3].lease);
#endif
           forget_hopeless()
       }
    od
}
