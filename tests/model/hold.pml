/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds: a mutation of data that front ends read from a replica which lags. What is proved, for
 * every interleaving, where the hold is no shorter than the lag:
 *
 *     no 304 carries a version older than the last mutation whose call had returned OK
 *     before the reader's last look at the shared memory
 *
 * One row, one version clock, no lease and no spool (lease.pml): one index, which a restart replaces at once. The replica shows
 * any version that the primary had during the last LAG ticks, and never goes back.
 *
 * The daemon dies anywhere, and starts again warm, or cold: then it has forgotten its holds, and holds everything for
 * COLD_HOLD. -DGUARD: the mutation is a guard around the primary's commit, whose writer may vanish, and the promise is the one
 * of guard.pml. Guards that overlap, confirmations that are repeated, and their journal: there.
 *
 * Each rule stands in an #ifndef NO_...
 */

#ifndef MUTATIONS
#define MUTATIONS 2
#endif
#ifndef INCARNATIONS
#define INCARNATIONS 2
#endif
#ifndef LAG
#define LAG 2
#endif
#ifndef HOLD
#define HOLD LAG
#endif
#ifndef LINGER /* of guards; a commit takes less, from the confirmation's sending */
#define LINGER 2
#endif
#ifndef COLD_HOLD /* no shorter than what it stands for: a hold; with guards a commit and its hold */
#ifndef GUARD
#define COLD_HOLD HOLD
#else
#define COLD_HOLD (LINGER + HOLD)
#endif
#endif
#define LSN_FIRST(i) ((i) * 16)

byte db;                   /* the version that the primary has */
byte replica;              /* and the replica */
byte lag[MUTATIONS + 1];   /* of each version since its commit, to go */
byte answered;             /* the last mutation whose call returned OK */

byte lsn, clock, version, fill_lsn; /* the index */
bool flux;                          /* a hold stands on the clock */
byte life;                          /* of the hold, to go */
#ifdef GUARD
bool guard, st_guard;               /* what stands is a guard still: life is its linger */
bool committing;
bool ended;                         /* guard_commit is on its way */
byte bound;                         /* of the primary's commit, to go */
#define GUARD_STANDS guard
#define PROMISE (!committing && seen_version == db)
#else
#define GUARD_STANDS false
#define PROMISE (seen_version >= answered)
#endif

byte st_clock, st_version, st_fill_lsn;
bool st_hold;

bool up;
byte inc;
bool request, handled, answer;
bool hold_later; /* NO_HOLD_WITH_EVENT only */

byte filling, token_inc, token_lsn, data;
byte looking, mapped, seen_version, seen_fill_lsn, promised;
inline fill_over() { filling = 0; token_inc = 0; token_lsn = 0; data = 0 }
inline check_over() { looking = 0; mapped = 0; seen_version = 0; seen_fill_lsn = 0; promised = 0 }

inline new_lsn()
{
    lsn++;
    assert(lsn < LSN_FIRST(inc + 1)); /* the model's own: numbers suffice */
    clock = lsn
}

/* mutation_apply(): clock and hold in one step. A hold that stands is followed by a longer one. */
inline apply()
{
    new_lsn();
#ifndef NO_HOLD_WITH_EVENT
    flux = true;
    life = HOLD;
#else
    hold_later = true;
#endif
    handled = true
}

/* guards_expire(): the daemon commits the hold itself. */
inline hold_over()
{
#ifndef NO_NEW_LSN
    new_lsn();
#endif
    flux = false
}

#ifdef GUARD
/* A confirmation: the guard stands, anew. No LSN is raised. */
inline arm() { guard = true; flux = true; life = LINGER; handled = true }
/* guards_expire(): the writer gave no sign of life. What counts as its commit has its hold too. */
inline linger_over()
{
    guard = false;
#ifndef NO_HOLD_AFTER_LINGER
    new_lsn();
    life = HOLD
#else
    hold_over()
#endif
}
#endif

#define STORE_MATTERS (inc < INCARNATIONS) /* else nobody will read it */
inline persist()
{
    if
    :: STORE_MATTERS ->
       st_clock = clock;
#ifndef NO_HOLD_PERSIST
       st_hold = flux;
#endif
#ifdef GUARD
       st_guard = guard;
#endif
       skip
    :: else
    fi;
    if
    :: handled -> handled = false; request = false; answer = true
    :: else
    fi
}

inline load()
{
    inc++;
    up = true;
    lsn = LSN_FIRST(inc);
    clock = st_clock;
    version = 0;
    fill_lsn = 0;
    if
    :: st_fill_lsn != 0 && st_fill_lsn >= st_clock -> version = st_version; fill_lsn = st_fill_lsn
    :: else
    fi;
    flux = st_hold;
#ifndef NO_HOLD_ANEW
    life = (flux -> HOLD : 0);
#else
    life = 0;
#endif
#ifdef GUARD
    guard = st_guard;
    if
    :: guard -> life = LINGER
    :: else
    fi;
#endif
    skip
}
inline load_cold()
{
    st_clock = 0; st_version = 0; st_fill_lsn = 0; st_hold = false;
#ifdef GUARD
    st_guard = false;
#endif
    load();
    flux = true;
    life = COLD_HOLD;
    st_hold = STORE_MATTERS
}
#ifdef GUARD
#define GUARD_FORGET guard = false
#else
#define GUARD_FORGET skip
#endif
inline crash() { up = false; request = false; handled = false; hold_later = false; life = 0; GUARD_FORGET }

active proctype daemon()
{
end:
    do
    :: d_step { !up && inc < INCARNATIONS -> load() }
    :: d_step { !up && inc < INCARNATIONS && inc > 0 -> load_cold() }
    :: d_step { up && inc < INCARNATIONS -> crash() }
#ifndef GUARD
    :: d_step { up && request && !handled -> apply() }
#else
    :: d_step { up && request && !handled -> arm() }
    :: d_step { up && guard && (life == 0 || ended) -> linger_over(); ended = false }
#endif
#ifdef NO_HOLD_WITH_EVENT
    :: d_step { up && hold_later -> hold_later = false; flux = true; life = HOLD }
#endif
    :: d_step { up && flux && !GUARD_STANDS && life == 0 -> hold_over() }
    :: d_step { up -> persist() }
    od
}

/* To the call before. A request that was not handled yet is as good as one of the next mutation. */
inline forget_answer()
{
    answer = false;
    if
    :: handled -> handled = false; request = false
    :: else
    fi
}

#ifndef GUARD
active proctype writer()
{
    byte mutation;

next:
    do
    :: atomic { mutation < MUTATIONS -> mutation++; db = mutation; lag[mutation] = LAG; forget_answer() };
       do
       :: atomic { up && !request && !answer -> request = true }
       :: atomic { answer -> answered = mutation; answer = false; goto next }
       :: goto next /* an error, or the writer died: nothing was promised */
       od
    :: else -> break
    od
}
#else
/* Guards one after the other, each on the same clock. Wherever the writer may go on, it may also vanish: then nobody commits. */
active proctype writer()
{
    byte mutation;

next:
    do
    :: atomic { mutation < MUTATIONS && !request && !ended -> mutation++; answer = false };
       do
       :: atomic { up && !request && !answer -> request = true; bound = LINGER }
       :: atomic { answer && bound > 0 -> answer = false; committing = true; break }
       :: atomic { true -> bound = 0; goto vanished }
       od;
       if
       :: atomic { db++; lag[db] = LAG; committing = false; bound = 0 }
       :: atomic { committing = false; bound = 0 }
       fi;
       if
       :: atomic { up && guard -> ended = true; goto next } /* etag_guard_commit() */
       :: goto vanished
       fi
    :: else -> break
    od;
vanished:
    skip
}
#endif

active proctype replication()
{
end:
    do
    :: d_step { replica < db -> replica++ }
    od
}

#ifndef NO_FLUX
#define IN_FLUX flux
#else
#define IN_FLUX false
#endif

active proctype filler()
{
end:
    do
    :: d_step { filling == 0 && inc > 0 -> token_inc = inc; token_lsn = lsn; filling = 1 }
    :: d_step { filling == 1 -> data = replica; filling = 2 }
    :: atomic {
           filling == 2 ->
           if
           :: up && token_inc == inc && clock <= token_lsn && !IN_FLUX ->
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
           :: mapped != inc || IN_FLUX || clock > seen_fill_lsn /* no lease, in flux, stale: unknown */
           :: else ->
              assert(PROMISE);
#ifdef REACH_304_AFTER_HOLD /* not vacuous: after the last hold, 304 again */
              assert(!(db == MUTATIONS && seen_version == db && inc == 2))
#endif
           fi;
           check_over()
       }
    od
}

inline count_down(left) { if :: left > 0 -> left-- :: else fi }
/* What the lag bounds: a version that was committed so long ago is seen. */
inline lag_down(v)
{
    if
    :: lag[v] > 0 ->
       lag[v]--;
       if
       :: lag[v] == 0 && replica < v -> replica = v
       :: else
       fi
    :: else
    fi
}

active proctype time()
{
end:
    do
    :: d_step {
#ifdef GUARD
           !committing || bound > 1 -> count_down(bound);
#endif
           count_down(life);
           lag_down(1);
#if MUTATIONS > 1
           lag_down(2)
#endif
       }
    od
}
