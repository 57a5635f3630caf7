/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds: a mutation of data that front ends read from a replica which lags (design, section 5). What is proved, for every
 * interleaving, where the hold is no shorter than the lag:
 *
 *     no 304 carries a version older than the last mutation whose call had returned OK
 *     before the reader's last look at the shared memory
 *
 * One row, one version clock, no lease and no spool (lease.pml): one index, which a restart replaces at once. The replica shows
 * any version that the primary had during the last LAG ticks, and never goes back.
 *
 * (The end of a guard that turns into a hold is the same event, with the index in flux before.) The daemonThe daemon dies anywhere, and starts
 * again warm, or cold: then it has forgotten its holds, and holds everything for COLD_HOLD.
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
#ifndef COLD_HOLD /* guard_linger */
#define COLD_HOLD HOLD
#endif
#define LSN_FIRST(i) ((i) * 16)

byte db;                   /* the version that the primary has */
byte replica;              /* and the replica */
byte lag[MUTATIONS + 1];   /* of each version since its commit, to go */
byte answered;             /* the last mutation whose call returned OK */

byte lsn, clock, version, fill_lsn; /* the index */
bool flux;                          /* a hold stands on the clock */
byte life;                          /* of the hold, to go */

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

#define STORE_MATTERS (inc < INCARNATIONS) /* else nobody will read it */
inline persist()
{
    if
    :: STORE_MATTERS ->
       st_clock = clock;
#ifndef NO_HOLD_PERSIST
       st_hold = flux
#endif
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
    life = (flux -> HOLD : 0)
#else
    life = 0
#endif
}
inline load_cold()
{
    st_clock = 0; st_version = 0; st_fill_lsn = 0; st_hold = false;
    load();
    flux = true;
    life = COLD_HOLD;
    st_hold = STORE_MATTERS
}
inline crash() { up = false; request = false; handled = false; hold_later = false; life = 0 }

active proctype daemon()
{
end:
    do
    :: d_step { !up && inc < INCARNATIONS -> load() }
    :: d_step { !up && inc < INCARNATIONS && inc > 0 -> load_cold() }
    :: d_step { up && inc < INCARNATIONS -> crash() }
    :: d_step { up && request && !handled -> apply() }
#ifdef NO_HOLD_WITH_EVENT
    :: d_step { up && hold_later -> hold_later = false; flux = true; life = HOLD }
#endif
    :: d_step { up && flux && life == 0 -> hold_over() }
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
              assert(seen_version >= answered);
#ifdef REACH_304_AFTER_HOLD /* not vacuous: after the last hold, 304 again */
              assert(!(answered == MUTATIONS))
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
           count_down(life);
           lag_down(1);
#if MUTATIONS > 1
           lag_down(2)
#endif
       }
    od
}
