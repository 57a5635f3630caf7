/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot, and a clock that changes its owner (rule REREAD of docs/consistency.md). What is proved, for every interleaving, with a
 * reader that may rest for ever between two of its steps:
 *
 *     no 304 carries a version older than the last mutation of its name that was answered before the reader's last look at
 *     the clocks
 *
 * Two names, one clock, one slot. The clock belongs to the name of the entry in the slot. When that entry is gone the clock may be
 * given to the other name, as which it begins with that name's last LSN: it may go back. A mutation raises the clock only of a name
 * that has it, since of the other there is no entry. (Today each name has a clock for ever, which it shares with others; that is
 * this model with less that can happen.)
 *
 * "slot copy" and each store are one step. The rule stands in an #ifndef NO_...: with that macro defined it is missing and Spin has
 * to find a counter-example.
 */

#ifndef MUTATIONS
#define MUTATIONS 2
#endif

byte db[2];       /* the row of each name */
byte answered[2]; /* ghost: its last mutation that was answered */
byte lsn = 1;

/* ---- The daemon's own ---- */

byte last[2]; /* the LSN of each name's last mutation: fills are judged by it */
byte request; /* 1 + name: a mutation that waits for its answer */

/* ---- Shared memory ---- */

byte clock;
byte owner;                         /* 1 + name; 0: nobody */
byte s_fill_lsn, s_name, s_version; /* the slot; fill LSN 0: empty */

/* ---- What the filler and the reader hold between their steps ---- */

byte filling, f_name, token, data;
inline fill_over() { filling = 0; f_name = 0; token = 0; data = 0 }

byte looking;                       /* the reader's next step */
byte name, version, fill_lsn;       /* its copy */
byte promised;                      /* ghost */
bool changed;                       /* the sequence is no longer the one from before the copy */
inline check_over() { looking = 0; name = 0; version = 0; fill_lsn = 0; promised = 0; changed = false }

inline slot_changes()
{
    if
    :: looking > 0 -> changed = true
    :: else
    fi
}

active proctype daemon()
{
end:
    do
    :: d_step { /* eviction: the slot first */
           s_fill_lsn != 0 -> s_fill_lsn = 0; s_name = 0; s_version = 0;
           slot_changes()
       }
    :: d_step { s_fill_lsn == 0 && owner != 1 -> owner = 1; clock = last[0] }
    :: d_step { s_fill_lsn == 0 && owner != 2 -> owner = 2; clock = last[1] }
    :: d_step {
           filling == 2 && owner == f_name + 1 && last[f_name] <= token && s_fill_lsn <= token ->
           s_fill_lsn = token; s_name = f_name; s_version = data;
           slot_changes();
           fill_over()
       }
    :: d_step { filling == 2 -> fill_over() } /* refused, or lost */
    :: d_step {
           request != 0 -> lsn++; last[request - 1] = lsn;
           if
           :: owner == request -> clock = lsn
           :: else
           fi;
           answered[request - 1] = db[request - 1];
           request = 0
       }
    od
}

active proctype writer()
{
    byte mutations;

    do
    :: atomic { mutations < MUTATIONS && request == 0 -> mutations++; db[0]++; request = 1 }
    :: atomic { mutations < MUTATIONS && request == 0 -> mutations++; db[1]++; request = 2 }
    :: mutations == MUTATIONS -> break
    od
}

active proctype filler()
{
end:
    do
    :: d_step { filling == 0 -> f_name = 0; token = lsn; filling = 1 }
    :: d_step { filling == 0 -> f_name = 1; token = lsn; filling = 1 }
    :: d_step { filling == 1 -> data = db[f_name]; filling = 2 }
    od
}

/* ---- A reader: shm_look() ---- */

#ifndef NO_REREAD
#define CHANGED changed
#else
#define CHANGED false
#endif

active proctype reader()
{
end:
    do
    :: d_step { looking == 0 && s_fill_lsn != 0 ->
           name = s_name; version = s_version; fill_lsn = s_fill_lsn; looking = 1 }
    :: d_step { looking == 1 ->
           promised = answered[name];
           if
           :: clock > fill_lsn -> check_over()
           :: else -> looking = 2
           fi }
    :: d_step { looking == 2 ->
           if
           :: CHANGED -> skip
           :: else ->
              assert(version >= promised);
#ifdef REACH_304 /* not vacuous: the last version is answered */
              assert(version < MUTATIONS)
#endif
           fi;
           check_over() }
    od
}
