/*
 * The protocol of docs/protocol.md, section 25, for spin. tests/model/README says what is left out
 * and why each reduction loses nothing; tests/model/run compiles and searches the configurations.
 *
 *   GENERATIONS  elections are opened under 1 .. GENERATIONS, in any order, also concurrently
 *   PROPOSERS    orchestrators that open the same generation (0 and 1)
 *   ENTRIES      the longest log
 *   REPLACED     machines that take the place of another one (0, 1 or 2); the old ones go on
 *   FAILING      a rewind may fail, or be cut off below the fork
 *   BIRTH        it begins with three empty machines instead of three equal copies
 *   LOSS         ... and one of them may lose its disk
 *   OVERRIDE     machines 1 and 2 are declared destroyed, truly or not; 0 leads alone; 3 joins it
 *   SPLIT_FENCE  promise, fence, position and vote of a follower are steps of their own
 *   CALM         I6: from every state in which two complete nodes talk, a leader serves
 *   FAIR         I6: once faults stop, each fair run comes to a leader that serves, and to three nodes
 *
 * Machines 0, 1 and 2 hold slots 0, 1 and 2. Machine 3 takes the place of machine 2; machine 4 that
 * of machine 1. All steps are d_steps: one rule of section 25 each, with its guard first.
 */
#ifndef GENERATIONS
#define GENERATIONS 4
#endif
#ifndef PROPOSERS
#define PROPOSERS 2
#endif
#ifndef ENTRIES
#define ENTRIES 2
#endif
#ifndef REPLACED
#define REPLACED 0
#endif
#define MACHINES (3 + REPLACED)

/* The calm after the faults has one more generation and needs no more room in the logs. */
#if defined(CALM) || defined(FAIR)
#define HIGHEST (GENERATIONS + 1)
#else
#define HIGHEST GENERATIONS
#endif

/* --- logs: three bits for the generation that wrote an entry, the first entry lowest ------------- */

#define LENGTH(x) ((x) >= 64 -> 3 : ((x) >= 8 -> 2 : ((x) >= 1 -> 1 : 0)))
#define LAST(x) ((x) >= 64 -> (x) >> 6 : ((x) >= 8 -> (x) >> 3 : (x)))
#define PREFIX(x, of)                                                                             \
    ((x) >= 64 -> (x) == (of) : ((x) >= 8 -> ((of) & 63) == (x) : ((x) >= 1 -> ((of) & 7) == (x) : 1)))
#define COMMON(x, y)                                                                              \
    ((x) == (y) -> (x) : (((x) & 63) == ((y) & 63) -> (x) & 63 : (((x) & 7) == ((y) & 7) -> (x) & 7 : 0)))
#define ONE_MORE(x, of) ((x) >= 8 -> (of) : ((x) >= 1 -> (of) & 63 : (of) & 7))
/* As many entries of x as y has. */
#define FIRST_OF(x, y) ((y) >= 64 -> (x) : ((y) >= 8 -> (x) & 63 : ((y) >= 1 -> (x) & 7 : 0)))
#define APPENDED(x, g) ((x) + ((g) << (3 * LENGTH(x))))

/* The generation of the last entry, then the length: compared as a number. */
#define POSITION(x) (LAST(x) * 4 + LENGTH(x))

/* --- the state ------------------------------------------------------------------------------------ */

#define ABSENT 0     /* a machine that nobody has set up yet */
#define NEW 1        /* an incarnation that has not finished registering; in a birth: blank */
#define REGISTERED 2
#define SUPERSEDED 3 /* it knows that another took its place, and stays stopped */

typedef machine {
    unsigned life : 2;
    unsigned generation : 3; /* promised */
    unsigned proposer : 1;   /* ... and to whom */
    unsigned fact : 3;       /* leader of the promised generation, + 1; itself: the grant is spent */
    unsigned leads : 1;      /* Postgres is primary(generation) */
    unsigned complete : 1;
    unsigned rewound : 1;
    unsigned leave : 1;      /* the permission to discard */
    unsigned target : 3;     /* length + 1, told by the leader of the promised generation */
    unsigned known : 2;      /* knows of the incarnations that machines 3 and 4 are */
    unsigned names : 2;      /* N and the access rules in force, in the same terms */
    unsigned at : 3;         /* by slot: registered there */
    unsigned log : 9;
#ifdef FAILING
    unsigned fork : 5;       /* of the last rewind: a position */
#endif
#ifdef BIRTH
    unsigned cluster : 4;    /* the birth that founded it: its election's index + 1 */
    unsigned unborn : 1;     /* promised a birth, does not know that it has ended */
#endif
#ifdef SPLIT_FENCE
    unsigned old : 3;        /* still streams from that leader, + 1, ... */
    unsigned older : 3;      /* ... of that generation */
    unsigned read : 5;       /* the position read for this promise, + 1 */
#endif
};
machine n[MACHINES];

/* Messages are never lost from here: a step may use them at any time, again and again, or never.
 * Promise requests need no memory: whatever could be asked for may arrive at any moment. */
#define ELECTION(g, p) (((g) - 1) * PROPOSERS + (p))
#define ELECTIONS (HIGHEST * PROPOSERS)
#define VOTE(g, p, i) vote[ELECTION(g, p) * MACHINES + (i)]
byte vote[ELECTIONS * MACHINES]; /* 0: none; else position + 1 | complete << 5 | known << 6 */
byte grant[ELECTIONS];           /* candidates, one bit each | known << 5 */
#ifdef BIRTH
byte kind[ELECTIONS];            /* 0: unused; 1 + first leader: a birth; OF_CLUSTER | cluster */
#define OF_CLUSTER 16
#define IS_BIRTH(e) (kind[e] != 0 && kind[e] < OF_CLUSTER)
#define CLUSTER_OF(e) (IS_BIRTH(e) -> (e) + 1 : kind[e] & 15)
#define SAME_CLUSTER(i, g, p) (CLUSTER_OF(ELECTION(g, p)) == n[i].cluster)
/* An election is opened only when two answer that may vote. Reports may be old: two that ever could. */
byte able[ELECTIONS]; /* by the birth that founded their cluster: who has had complete data, one bit each */
#define TWO_ABLE 7
#define MAY_OPEN(i) (able[n[i].cluster - 1] == TWO_ABLE)
#define ASKED_BY_ITS_CLUSTER(i, g, p)                                                             \
    (n[i].cluster != 0 && ((kind[ELECTION(g, p)] == 0 && MAY_OPEN(i)) ||                          \
                           kind[ELECTION(g, p)] == (OF_CLUSTER | n[i].cluster)))
#define IS_ELECTION(g, p) (!IS_BIRTH(ELECTION(g, p)))
#define FOUNDS(i, g, p) (n[i].unborn && kind[ELECTION(g, p)] == (i) + 1)
/* Until then its N lists nobody, and it streams under a name that nobody lists. */
#define KNOWS_BIRTH_ENDED(i) (!n[i].unborn)
#else
#define KNOWS_BIRTH_ENDED(i) (true)
#define SAME_CLUSTER(i, g, p) (true)
#define ASKED_BY_ITS_CLUSTER(i, g, p) (true)
#define IS_ELECTION(g, p) (true)
#define FOUNDS(i, g, p) (false)
#endif

#ifdef LOSS
bit lost;
#endif

/* For the invariants only. */
short acked[HIGHEST + 1];    /* the log up to the last entry of this generation that was acknowledged */
short promoted[HIGHEST + 1]; /* the log that its leader began with | PROMOTED */
byte led;                    /* generations that had a leader, one bit each */
#define PROMOTED 16384
#ifdef OVERRIDE
bit overridden;
/* What is acknowledged and led without knowing of the override is another history: nothing is
 * promised of it, but that it ends here. */
#define COUNTS(i) (n[i].known & 2)
/* Each message of this election says so. */
#define DECLARED(g, p) ((grant[ELECTION(g, p)] >> 5) & 2)
#else
#define COUNTS(i) (true)
#define DECLARED(g, p) 0
#endif

hidden byte low, before;
hidden byte I1, I2, I3, I4, I5, I6;
#if defined(CALM) || defined(FAIR)
bit calm;
#else
#define calm (false)
#endif
#ifdef FAIR
unsigned absent : 2; /* of the calm: this one is not there, + 1 */
bit opened;          /* the orchestrator of the calm has opened the highest generation */
bit noise;
#define PRESENT(i) (absent != (i) + 1)
#define MEET(i, l) (PRESENT(i) && PRESENT(l))
#define IS_OPEN(g) ((g) < HIGHEST || opened)
#else
#define PRESENT(i) (true)
#define MEET(i, l) (true)
#define IS_OPEN(g) (true)
#endif

#define SLOT(i) ((i) < 3 -> (i) : ((i) == 3 -> 2 : 1))

/* Does somebody with this knowledge take i for replaced? */
#if defined(OVERRIDE)
/* Bit 1 says instead that an operator declared machines 1 and 2 destroyed. */
#define OUTDATED(i, known) (((i) == 1 && ((known) & 2)) || ((i) == 2 && ((known) & 3)))
#define ADMITS(names, i)                                                                          \
    ((i) == 0 || ((i) == 1 && !((names) & 2)) || ((i) == 2 && !((names) & 3)) ||                  \
     ((i) == 3 && ((names) & 1)))
#elif REPLACED == 0
#define OUTDATED(i, known) (false)
#define ADMITS(names, i) (true)
#else
#define OUTDATED(i, known) (((i) == 2 && ((known) & 1)) || ((i) == 1 && ((known) & 2)))
#define ADMITS(names, i)                                                                          \
    ((i) == 0 || ((i) == 1 && !((names) & 2)) || ((i) == 2 && !((names) & 1)) ||                  \
     ((i) == 3 && ((names) & 1)) || ((i) == 4 && ((names) & 2)))
#endif

/* i follows l, which leads the generation that i promised, and is admitted. */
#define FOLLOWS(i, l)                                                                             \
    (n[i].fact == (l) + 1 && n[l].leads && n[l].generation == n[i].generation && MEET(i, l) &&    \
     n[i].life == REGISTERED && ADMITS(n[l].names, i))
/* ... and i does not take it for a machine that was replaced. */
#define FOLLOWS_KNOWN(i, l) (FOLLOWS(i, l) && !OUTDATED(l, n[i].known))

/* --- forgetting what can make no difference any more ---------------------------------------------- */

/* Can this machine still come to promise g? One that is not registered yet will adopt at least what
 * it has been or will be answered. */
#if REPLACED == 0
#define BELOW(i, g) (n[i].generation < (g))
#define LIVES(i) (true)
#define ANY_BELOW(g) (BELOW(0, g) || BELOW(1, g) || BELOW(2, g))
#else
#define LIVES(i) (n[i].life != SUPERSEDED)
#define BELOW(i, g)                                                                               \
    (LIVES(i) && n[i].generation < (g) &&                                                         \
     ((i) < 3 || n[i].life == REGISTERED ||                                                       \
      (((n[i].at & 1) || n[0].generation < (g)) &&                                                \
       (REPLACED == 2 || (n[i].at & 2) || n[1].generation < (g)))))
#if REPLACED == 1
#define ANY_BELOW(g) (BELOW(0, g) || BELOW(1, g) || BELOW(2, g) || BELOW(3, g))
#else
#define ANY_BELOW(g) (BELOW(0, g) || BELOW(1, g) || BELOW(2, g) || BELOW(3, g) || BELOW(4, g))
#endif
#endif

#define PROMISED(i, g, p) (LIVES(i) && n[i].generation == (g) && n[i].proposer == (p))
#define UNDECIDED(i, g) (LIVES(i) && n[i].generation == (g) && n[i].fact == 0)
#define OPEN(i, g, p) (PROMISED(i, g, p) && n[i].fact == 0)
#ifdef SPLIT_FENCE
#define MAY_COME(i, g, p) (BELOW(i, g) || VOTE(g, p, i) != 0 || OPEN(i, g, p))
#define MAY_VOTE(i, g, p) MAY_COME(i, g, p)
#else
#define MAY_VOTE(i, g, p) (BELOW(i, g) || VOTE(g, p, i) != 0)
#endif
#if REPLACED == 0
#define ANY(x, ...) (x(0, __VA_ARGS__) || x(1, __VA_ARGS__) || x(2, __VA_ARGS__))
#define COUNT(x, ...) (x(0, __VA_ARGS__) + x(1, __VA_ARGS__) + x(2, __VA_ARGS__))
#elif REPLACED == 1
#define ANY(x, ...)                                                                               \
    (x(0, __VA_ARGS__) || x(1, __VA_ARGS__) || x(2, __VA_ARGS__) || x(3, __VA_ARGS__))
#define COUNT(x, ...)                                                                             \
    (x(0, __VA_ARGS__) + x(1, __VA_ARGS__) + x(2, __VA_ARGS__) + x(3, __VA_ARGS__))
#else
#define ANY(x, ...)                                                                               \
    (x(0, __VA_ARGS__) || x(1, __VA_ARGS__) || x(2, __VA_ARGS__) || x(3, __VA_ARGS__) ||          \
     x(4, __VA_ARGS__))
#define COUNT(x, ...)                                                                             \
    (x(0, __VA_ARGS__) + x(1, __VA_ARGS__) + x(2, __VA_ARGS__) + x(3, __VA_ARGS__) +              \
     x(4, __VA_ARGS__))
#endif

#ifdef BIRTH
inline note_able(i)
{
    if
    :: n[i].complete && able[n[i].cluster - 1] == 0 -> able[n[i].cluster - 1] = 1 << i
    :: n[i].complete && able[n[i].cluster - 1] != 0 && able[n[i].cluster - 1] != 1 << i ->
        able[n[i].cluster - 1] = TWO_ABLE
    :: else
    fi
}
#define OF_BIRTH(i, e) (n[i].cluster == (e) + 1)
#endif

inline forget_votes(g, p)
{
    VOTE(g, p, 0) = 0;
    VOTE(g, p, 1) = 0;
    VOTE(g, p, 2) = 0;
#if REPLACED >= 1
    VOTE(g, p, 3) = 0;
#endif
#if REPLACED >= 2
    VOTE(g, p, 4) = 0;
#endif
}

/* Votes matter while two may come together and one of them may still be granted; a grant while
 * somebody may still obey it or be told of it; where a leader began while an earlier one may act. */
inline forget_election(g, p)
{
    if
    :: grant[ELECTION(g, p)] != 0 || COUNT(MAY_VOTE, g, p) < 2 || !(low || ANY(OPEN, g, p)) ->
        forget_votes(g, p)
    :: else
    fi;
    if
    :: !low && !ANY(UNDECIDED, g) -> grant[ELECTION(g, p)] = 0
    :: else
    fi
#ifdef BIRTH
    ;
    if
    :: !low && !ANY(PROMISED, g, p) -> kind[ELECTION(g, p)] = 0
    :: else
    fi;
    if
    :: !ANY(OF_BIRTH, ELECTION(g, p)) -> able[ELECTION(g, p)] = 0
    :: else
    fi
#endif
}

inline forget_generation(g)
{
    low = ANY_BELOW(g);
    forget_election(g, 0);
#if PROPOSERS == 2
    forget_election(g, 1);
#endif
    if
    :: !low -> promoted[g] = 0
    :: else
    fi
}

inline forget()
{
    forget_generation(1);
    forget_generation(2);
#if GENERATIONS >= 3
    forget_generation(3);
#endif
#if GENERATIONS >= 4
    forget_generation(4);
#endif
#if GENERATIONS >= 5
    forget_generation(5);
#endif
    low = 0
}

/* A mutant that breaks one of these at once shall show what comes of it. */
#ifdef NO_I4
#define NOT_ASKED_4 (true)
#else
#define NOT_ASKED_4 (false)
#endif
#ifdef NO_I5
#define NOT_ASKED_5 (true)
#else
#define NOT_ASKED_5 (false)
#endif

/* --- elections ------------------------------------------------------------------------------------ */

/* Nodes and proposers are interchangeable until they differ: of equal ones the lower acts first. */
#ifdef BIRTH
#define USED(g) (kind[ELECTION(g, 0)] != 0)
#else
#define USED(g) (ANY(PROMISED, g, 0) || ANY(VOTED, g, 0) || grant[ELECTION(g, 0)] != 0)
#endif
#define VOTED(i, g, p) (VOTE(g, p, i) != 0)
#define IN_ORDER(g, p) ((p) == 0 || USED(g))
#if defined(BIRTH) || defined(ASYMMETRIC)
#define NEXT_IN_LINE(i) (true)
#elif REPLACED == 0
#define TOUCHED(i) (n[i].generation != 0)
#define NEXT_IN_LINE(i) ((i) == 0 || TOUCHED((i) - 1) || calm)
#elif REPLACED == 1
#define TOUCHED(i) (n[i].generation != 0 || n[i].known != 0)
#define NEXT_IN_LINE(i) ((i) != 1 || TOUCHED(0) || calm)
#else
#define NEXT_IN_LINE(i) (true)
#endif

#ifdef FAILING
#define END(i) (POSITION(n[i].log) > n[i].fork -> POSITION(n[i].log) : n[i].fork)
#else
#define END(i) POSITION(n[i].log)
#endif

/* What a new promise makes void. */
inline stand_down(i)
{
#ifdef SPLIT_FENCE
    n[i].old = 0;
    n[i].older = 0;
    n[i].read = 0;
#endif
    n[i].leads = 0;
    n[i].names = 0;
    n[i].leave = 0;
    n[i].target = 0
}

/* A promise request that is admitted; fence; position; vote. */
inline promise(i, g, p)
{
    d_step {
        n[i].life == REGISTERED && n[i].generation < g && IN_ORDER(g, p) && NEXT_IN_LINE(i) &&
        ASKED_BY_ITS_CLUSTER(i, g, p) && PRESENT(i) && IS_OPEN(g) ->
#ifdef BIRTH
        kind[ELECTION(g, p)] = OF_CLUSTER | n[i].cluster;
#endif
        I4 = n[i].generation <= g || NOT_ASKED_4;
        assert(I4);
#ifndef SPLIT_FENCE
        n[i].generation = g;
        n[i].proposer = p;
        n[i].fact = 0;
        stand_down(i);
        if
        :: n[i].complete || n[i].rewound ->
            VOTE(g, p, i) = (END(i) + 1) | (n[i].complete << 5) | (n[i].known << 6)
        :: else
        fi;
#else
        before = n[i].generation;
        low = n[i].fact;
        if
        :: n[i].old != 0 -> low = n[i].old; before = n[i].older /* not fenced since then */
        :: else
        fi;
        stand_down(i);
        if
        :: low != 0 && low != i + 1 -> n[i].old = low; n[i].older = before
        :: else
        fi;
        before = 0;
        n[i].generation = g;
        n[i].proposer = p;
        n[i].fact = 0;
#endif
        forget()
    }
}

#ifdef SPLIT_FENCE
inline fence(i)
{
    d_step {
        n[i].old != 0 ->
        n[i].old = 0;
        n[i].older = 0
    }
}

#define WAITS(i, g, p) (OPEN(i, g, p) && (n[i].complete || n[i].rewound) && grant[ELECTION(g, p)] == 0)

inline read_position(i, g, p)
{
    d_step {
        WAITS(i, g, p) && n[i].read == 0 && VOTE(g, p, i) == 0 &&
        n[i].old == 0 && COUNT(MAY_COME, g, p) >= 2 ->
        n[i].read = END(i) + 1
    }
}

inline cast_vote(i, g, p)
{
    d_step {
        WAITS(i, g, p) && n[i].read != 0 &&
        n[i].old == 0 ->
        VOTE(g, p, i) = n[i].read | (n[i].complete << 5) | (n[i].known << 6);
        n[i].read = 0
    }
}
#endif

#define MAY_LEAD(vote) ((vote) & 32)
#define AHEAD(a, b) (((a) & 31) >= ((b) & 31))

/* R of two members, c the candidate: a third one only adds conditions. */
inline elect(g, p, c, x)
{
    d_step {
        VOTE(g, p, c) != 0 && VOTE(g, p, x) != 0 &&
        MAY_LEAD(VOTE(g, p, c)) &&
        AHEAD(VOTE(g, p, c), VOTE(g, p, x)) &&
        !OUTDATED(c, VOTE(g, p, x) >> 6) &&
        !OUTDATED(x, VOTE(g, p, c) >> 6) &&
        grant[ELECTION(g, p)] == 0 && IS_ELECTION(g, p) ->
        grant[ELECTION(g, p)] = (1 << c) | (((VOTE(g, p, c) | VOTE(g, p, x)) >> 6) << 5);
        forget_votes(g, p)
    }
}

#define HOLDS(h, x) PREFIX(acked[h], x)
#define HOLDS_ALL(g, x)                                                                           \
    (HOLDS(1, x) && ((g) <= 2 || HOLDS(2, x)) && ((g) <= 3 || HOLDS_3(x)) && ((g) <= 4 || HOLDS_4(x)))
#if HIGHEST >= 4
#define HOLDS_3(x) HOLDS(3, x)
#else
#define HOLDS_3(x) (true)
#endif
#if HIGHEST >= 5
#define HOLDS_4(x) HOLDS(4, x)
#else
#define HOLDS_4(x) (true)
#endif

/* A grant that is admitted; N in force; spent; promoted. */
inline lead(i, g, p)
{
    d_step {
        n[i].life == REGISTERED && (grant[ELECTION(g, p)] & (1 << i)) &&
        n[i].generation == g &&
        n[i].proposer == p &&
        n[i].fact == 0 &&
        (n[i].complete || FOUNDS(i, g, p)) &&
        !OUTDATED(i, grant[ELECTION(g, p)] >> 5) && PRESENT(i) ->
        n[i].complete = 1; /* the first leader of a birth made its data just now */
#ifdef BIRTH
        note_able(i);
#endif
        n[i].known = n[i].known | (grant[ELECTION(g, p)] >> 5);
        n[i].fact = i + 1;
        n[i].names = n[i].known;
        n[i].leads = 1;
        if
        :: COUNTS(i) ->
            I2 = !(led & (1 << g));
            assert(I2);
            I1 = (g == 1 || HOLDS_ALL(g, n[i].log));
            assert(I1);
            led = led | (1 << g);
            promoted[g] = n[i].log | PROMOTED
        :: else
        fi;
        forget()
    }
}

/* Told of a fact: promise (generation, proposer of that leader's grant), fence. */
inline follow(i, g, p, l)
{
    d_step {
        n[i].life == REGISTERED && (grant[ELECTION(g, p)] & (1 << l)) &&
        (n[i].generation < g || (n[i].generation == g && n[i].fact == 0)) &&
        SAME_CLUSTER(i, g, p) && !OUTDATED(i, DECLARED(g, p)) &&
        !OUTDATED(l, n[i].known) && PRESENT(i) ->
        n[i].known = n[i].known | DECLARED(g, p);
        n[i].generation = g;
        n[i].proposer = p;
        n[i].fact = l + 1;
        stand_down(i);
        forget()
    }
}

/* Crashed, stopped, fenced by itself. It starts again as a standby. */
inline stop(i)
{
    d_step {
        n[i].leads ->
        n[i].leads = 0;
        n[i].names = 0
    }
}

/* --- commits -------------------------------------------------------------------------------------- */

inline append(i)
{
    d_step {
        n[i].leads && LENGTH(n[i].log) < ENTRIES ->
        n[i].log = APPENDED(n[i].log, n[i].generation)
    }
}

#define BEGAN_WITH(h, g) ((h) <= (g) || promoted[h] == 0 || PREFIX(acked[g], promoted[h] & 511))
#define LATER_HAVE(g) (BEGAN_WITH(2, g) && LATER_HAVE_3(g) && LATER_HAVE_4(g) && LATER_HAVE_5(g))
#if HIGHEST >= 3
#define LATER_HAVE_3(g) BEGAN_WITH(3, g)
#else
#define LATER_HAVE_3(g) (true)
#endif
#if HIGHEST >= 4
#define LATER_HAVE_4(g) BEGAN_WITH(4, g)
#else
#define LATER_HAVE_4(g) (true)
#endif
#if HIGHEST >= 5
#define LATER_HAVE_5(g) BEGAN_WITH(5, g)
#else
#define LATER_HAVE_5(g) (true)
#endif

/* i has flushed all it has from l under a name in N: what l wrote itself up to there is acknowledged. */
inline acknowledge(i, l)
{
    if
    :: LAST(n[i].log) == n[l].generation && (led & (1 << n[l].generation)) &&
       KNOWS_BIRTH_ENDED(i) && KNOWS_BIRTH_ENDED(l) &&
       acked[n[l].generation] < FIRST_OF(n[l].log, n[i].log) ->
        I5 = n[i].complete || NOT_ASKED_5;
        assert(I5);
        acked[n[l].generation] = FIRST_OF(n[l].log, n[i].log);
        I3 = LATER_HAVE(n[l].generation);
        assert(I3)
    :: else
    fi
}

inline copy(i, l)
{
    d_step {
        FOLLOWS(i, l) && n[i].log != n[l].log &&
        PREFIX(n[i].log, n[l].log) ->
        n[i].log = ONE_MORE(n[i].log, n[l].log);
        if
        :: n[i].complete && ADMITS(n[l].names, i) -> acknowledge(i, l)
        :: else
        fi
    }
}

#ifdef SPLIT_FENCE
/* The receiver that a promise found there goes on until it is fenced. */
inline copy_as_before(i, l)
{
    d_step {
        n[i].old == l + 1 && n[l].leads && n[l].generation == n[i].older &&
        n[i].life == REGISTERED && ADMITS(n[l].names, i) && n[i].log != n[l].log &&
        PREFIX(n[i].log, n[l].log) ->
        n[i].log = ONE_MORE(n[i].log, n[l].log);
        if
        :: n[i].complete -> acknowledge(i, l)
        :: else
        fi
    }
}
#endif

/* --- complete data -------------------------------------------------------------------------------- */

inline take_target(i, l)
{
    d_step {
        FOLLOWS_KNOWN(i, l) && !n[i].complete && n[i].target == 0 && PREFIX(n[i].log, n[l].log) ->
        n[i].target = LENGTH(n[l].log) + 1
    }
}

inline finish(i, l)
{
    d_step {
        n[i].life == REGISTERED && n[i].fact == l + 1 && !n[i].complete &&
        n[i].target != 0 &&
        n[i].target <= LENGTH(n[i].log) + 1 ->
        n[i].complete = 1;
        n[i].rewound = 0;
        n[i].target = 0;
        n[i].leave = 0;
#ifdef FAILING
        n[i].fork = 0;
#endif
#ifdef BIRTH
        n[i].unborn = 0;
        note_able(i);
#endif
        if
        :: FOLLOWS(i, l) && ADMITS(n[l].names, i) && PREFIX(n[i].log, n[l].log) -> acknowledge(i, l)
        :: else
        fi
    }
}

inline rewind(i, l)
{
    d_step {
        FOLLOWS_KNOWN(i, l) && !PREFIX(n[i].log, n[l].log) ->
#ifdef FAILING
        n[i].fork = POSITION(COMMON(n[i].log, n[l].log));
        n[i].log = 0;
#else
        n[i].log = COMMON(n[i].log, n[l].log);
#endif
        n[i].rewound = n[i].complete || n[i].rewound;
        n[i].complete = 0;
        n[i].target = 0
    }
}

inline give_up_copy(i)
{
    n[i].log = 0;
    n[i].complete = 0;
    n[i].rewound = 0;
#ifdef FAILING
    n[i].fork = 0;
#endif
    n[i].target = 0
}

#ifdef FAILING
inline rewind_fails(i, l)
{
    d_step {
        FOLLOWS_KNOWN(i, l) && !PREFIX(n[i].log, n[l].log) ->
        give_up_copy(i)
    }
}
#endif

/* Two that may vote remain: the leader, and one that has data. */
#define VOTES(i, l)                                                                               \
    ((i) != (l) && SLOT(i) != SLOT(l) && n[i].life == REGISTERED && (n[i].complete || n[i].rewound))
#if defined(FAILING) || REPLACED > 0 || defined(BIRTH)
#define LENIENT (true)
#else
#define LENIENT (false)
#endif

/* A clone begins with nothing; copy() brings it to any prefix of the leader's log. */
inline clone(i, l)
{
    d_step {
        FOLLOWS_KNOWN(i, l) &&
        ((n[i].complete || n[i].rewound) -> n[i].leave : n[i].log != 0 || n[i].target != 0) ->
        give_up_copy(i);
        I6 = LENIENT || COUNT(VOTES, l) >= 1;
        assert(I6)
    }
}

/* The leader's leave for i; j is the other follower. */
inline permit(i, l, j)
{
    d_step {
        FOLLOWS_KNOWN(i, l) && (n[i].complete || n[i].rewound) && !n[i].leave &&
        FOLLOWS(j, l) && n[j].complete && !n[j].leave ->
        n[i].leave = 1
    }
}

/* Not used in time. */
inline expire(i)
{
    d_step { n[i].leave && n[i].complete -> n[i].leave = 0 }
}

/* --- birth ---------------------------------------------------------------------------------------- */

#ifdef BIRTH
#define BORN(y) (n[y].life == REGISTERED && !n[y].unborn)
/* Says y that it knows of no end, and that this birth was not granted before? */
#define NOT_BORN(y, g)                                                                            \
    (!BORN(y) && (n[y].generation < (g) || (n[y].generation == (g) && n[y].fact == 0)))

/* All three are alike until somebody is asked. */
#ifdef LOSS
#define NOT_THE_FIRST (n[0].life != NEW || n[1].life != NEW || n[2].life != NEW || lost)
#else
#define NOT_THE_FIRST (n[0].life != NEW || n[1].life != NEW || n[2].life != NEW)
#endif

/* A blank machine, or one that promised a birth and knows of no end, when both peers y and z have
 * just said that they know of none either, nor of a grant: this machine must have promised what was
 * granted, so it would be one that forgot. x is to be the first leader. */
inline be_born(i, y, z, x, g, p)
{
    d_step {
        (kind[ELECTION(g, p)] == 0 || kind[ELECTION(g, p)] == x + 1) && IN_ORDER(g, p) &&
        (x == 0 || NOT_THE_FIRST) && n[i].generation < g && (n[i].life == NEW || n[i].unborn) &&
        NOT_BORN(y, g) && NOT_BORN(z, g) ->
        kind[ELECTION(g, p)] = x + 1;
        n[i].life = REGISTERED;
        n[i].generation = g;
        n[i].proposer = p;
        n[i].fact = 0;
        n[i].cluster = ELECTION(g, p) + 1;
        n[i].unborn = 1;
        stand_down(i);
        if
        :: x != i -> give_up_copy(i)
        :: else -> note_able(i)
        fi;
        VOTE(g, p, i) = 1;
        forget()
    }
}

/* All three have promised it. */
inline found(x, g, p)
{
    d_step {
        kind[ELECTION(g, p)] == x + 1 && grant[ELECTION(g, p)] == 0 &&
        VOTE(g, p, 0) != 0 && VOTE(g, p, 1) != 0 && VOTE(g, p, 2) != 0 ->
        grant[ELECTION(g, p)] = 1 << x;
        forget_votes(g, p)
    }
}

/* Out of y's report. */
inline hear_of_end(i, y)
{
    d_step {
        n[i].unborn && n[i].cluster == n[y].cluster && BORN(y) ->
        n[i].unborn = 0
    }
}

/* Once both know of the end. */
inline count_again(i, l)
{
    d_step {
        FOLLOWS(i, l) && n[i].complete && PREFIX(n[i].log, n[l].log) && KNOWS_BIRTH_ENDED(i) &&
        KNOWS_BIRTH_ENDED(l) && LAST(n[i].log) == n[l].generation &&
        acked[n[l].generation] < FIRST_OF(n[l].log, n[i].log) ->
        acknowledge(i, l)
    }
}

#ifdef LOSS
#define TO_A_LOST_ONE 128 /* a grant is to an incarnation; made it is, but nobody can take it */
/* One disk is lost, at any time. (What a machine does that finds itself next to a cluster is
 * searched by the configurations with replaced machines: here it stays blank.) */
inline lose_disk(i)
{
    d_step {
        !lost && n[i].life == REGISTERED ->
        lost = 1;
        give_up_copy(i);
        stand_down(i);
        n[i].generation = 0;
        n[i].proposer = 0;
        n[i].fact = 0;
        n[i].cluster = 0;
        n[i].unborn = 0;
        n[i].life = NEW;
        before = 0;
        do
        :: before < ELECTIONS && (grant[before] & (1 << i)) -> grant[before] = TO_A_LOST_ONE
        :: before < ELECTIONS && !(grant[before] & (1 << i)) -> before++
        :: else -> break
        od;
        before = 0;
        forget()
    }
}
#endif
#define BIRTHS(x, g, p)                                                                           \
    :: be_born(0, 1, 2, x, g, p) :: be_born(1, 0, 2, x, g, p) :: be_born(2, 0, 1, x, g, p) ::     \
       found(x, g, p)
#define ALL_BIRTHS(g, p) BIRTHS(0, g, p) BIRTHS(1, g, p) BIRTHS(2, g, p)
#endif

/* --- replaced machines ---------------------------------------------------------------------------- */

#if REPLACED > 0
inline appear(m)
{
    d_step {
        n[m].life == ABSENT ->
        n[m].life = NEW;
        n[m].known = 1 << (m - 3)
    }
}

/* m takes over what x knows; what an older machine had answered to it is void. */
inline learn_of(m, x)
{
    before = n[m].known;
    n[m].known = n[m].known | n[x].known;
    if
    :: (n[m].known & ~before & 1) && n[m].life == NEW -> n[m].at = n[m].at & ~(1 << 2)
    :: else
    fi;
    if
    :: (n[m].known & ~before & 2) && n[m].life == NEW -> n[m].at = n[m].at & ~(1 << 1)
    :: else
    fi
}

#define BOTH_OTHERS(m) (7 - (1 << SLOT(m)))
#ifdef OVERRIDE
#define SURVIVOR_ALONE(m) ((n[m].at & 1) && (n[m].known & 2))
#else
#define SURVIVOR_ALONE(m) (false)
#endif

/* x makes m's incarnation durable, takes the old name out of N, answers. */
inline register(m, x)
{
    d_step {
        n[m].life == NEW && !(n[m].at & (1 << SLOT(x))) &&
        n[x].life == REGISTERED &&
        !OUTDATED(x, n[m].known) && NEXT_IN_LINE(x) ->
        n[x].known = n[x].known | (1 << (m - 3));
        n[x].names = (n[x].leads -> n[x].known : 0);
        learn_of(m, x);
        n[m].at = n[m].at | (1 << SLOT(x));
        if
        :: n[x].generation > n[m].generation ->
            n[m].generation = n[x].generation;
            n[m].proposer = n[x].proposer
        :: else
        fi;
        if
        :: n[m].at == BOTH_OTHERS(m) || SURVIVOR_ALONE(m) ->
            n[m].life = REGISTERED;
            n[m].at = 0
        :: else
        fi;
        forget()
    }
}

/* Out of x's report, or any message that names what x knows. */
inline learn(i, x)
{
    d_step {
        n[x].life == REGISTERED && (n[i].life == REGISTERED || n[i].life == NEW) &&
        (n[i].known | n[x].known) != n[i].known && !OUTDATED(x, n[i].known) ->
        learn_of(i, x);
        if
        :: OUTDATED(i, n[i].known) ->
            give_up_copy(i);
            stand_down(i);
            n[i].generation = 0;
            n[i].proposer = 0;
            n[i].fact = 0;
            n[i].known = 0;
            n[i].life = SUPERSEDED;
            forget()
        :: else
        fi
    }
}

#ifdef OVERRIDE
/* The only way past a refused election: R of one, when the operator answers for the others. Their
 * generations are left out with a gap: the survivor's is above all that they opened so far. */
inline override(g, p)
{
    d_step {
        !overridden && VOTE(g, p, 0) != 0 && MAY_LEAD(VOTE(g, p, 0)) && grant[ELECTION(g, p)] == 0 &&
        n[1].generation <= g && n[2].generation <= g && n[3].life != REGISTERED ->
        overridden = 1;
        grant[ELECTION(g, p)] = 1 | (((VOTE(g, p, 0) >> 6) | 2) << 5);
        forget_votes(g, p)
    }
}
#endif

/* What the leader has learned comes into N. */
inline rename(l)
{
    d_step { n[l].leads && n[l].names != n[l].known -> n[l].names = n[l].known }
}
#endif

/* --- I6 ------------------------------------------------------------------------------------------- */

#ifdef CALM
/* Of machines 2 and 3 the one that their slot has come to. */
#if REPLACED == 0
#define NEWEST(t) (true)
#else
#define NEWEST(t) ((t) < 2 || ((t) == 3) == (n[3].life != ABSENT))
#endif
#define TALKS(i) (n[i].life == REGISTERED && n[i].complete)

/* From where it is now t becomes complete again, or stays so. If it cannot, the process is stuck
 * outside its end state, which is an error. */
inline join(t, c, o, g)
{
#if REPLACED > 0
    if
    :: t >= 3 && n[t].life == NEW ->
        do
        :: register(t, c)
        :: register(t, o)
        :: else -> break
        od
    :: else
    fi;
#endif
    follow(t, g, 0, c);
#if REPLACED > 0
    if
    :: !ADMITS(n[c].names, t) -> rename(c)
    :: else
    fi;
#endif
    if
    :: !PREFIX(n[t].log, n[c].log) -> rewind(t, c)
    :: else
    fi;
#ifdef FAILING
    if
    :: t != o && n[t].rewound -> permit(t, c, o); clone(t, c)
    :: else
    fi;
#endif
    if
    :: !n[t].complete -> take_target(t, c)
    :: else
    fi;
    do
    :: n[t].log != n[c].log -> copy(t, c)
    :: else -> break
    od;
    if
    :: !n[t].complete -> finish(t, c)
    :: else
    fi;
    I6 = FOLLOWS(t, c) && n[t].complete && PREFIX(n[c].log, n[t].log);
    assert(I6)
}

/* Faults have stopped. Two complete nodes, c with the greater position, and an orchestrator talk:
 * a leader serves, and then the third machine joins. */
inline calm_down(c, o, t)
{
    atomic {
        TALKS(c) && TALKS(o) && !OUTDATED(c, n[o].known) && !OUTDATED(o, n[c].known) &&
        END(c) >= END(o) && NEWEST(t) ->
        calm = 1;
        promise(c, HIGHEST, 0);
        promise(o, HIGHEST, 0);
        elect(HIGHEST, 0, c, o);
        lead(c, HIGHEST, 0);
        join(o, c, o, HIGHEST);
        if
        :: (n[t].life == REGISTERED || n[t].life == NEW) && !OUTDATED(t, n[c].known) &&
           !OUTDATED(c, n[t].known) && !OUTDATED(o, n[t].known) ->
            join(t, c, o, HIGHEST)
        :: else
        fi;
        goto over
    }
}

/* All ways end in one state. */
inline forget_everything()
{
    before = 0;
    do
    :: before < MACHINES ->
        n[before].life = 0;
        n[before].generation = 0;
        n[before].proposer = 0;
        n[before].fact = 0;
        n[before].leads = 0;
        n[before].complete = 0;
        n[before].rewound = 0;
        n[before].leave = 0;
        n[before].target = 0;
        n[before].known = 0;
        n[before].names = 0;
        n[before].at = 0;
        n[before].log = 0;
#ifdef FAILING
        n[before].fork = 0;
#endif
        before++
    :: else -> break
    od;
    before = 0;
    do
    :: before < ELECTIONS * MACHINES -> vote[before] = 0; before++
    :: else -> break
    od;
    before = 0;
    do
    :: before < ELECTIONS -> grant[before] = 0; before++
    :: else -> break
    od;
    before = 0;
    do
    :: before <= HIGHEST -> acked[before] = 0; promoted[before] = 0; before++
    :: else -> break
    od;
    before = 0;
    led = 0
}

#if REPLACED == 0
#define CALMS                                                                                     \
    :: calm_down(0, 1, 2) :: calm_down(1, 0, 2) :: calm_down(0, 2, 1) ::                          \
       calm_down(2, 0, 1) :: calm_down(1, 2, 0) :: calm_down(2, 1, 0)
#else
#define CALMS                                                                                     \
    :: calm_down(0, 1, 2) :: calm_down(1, 0, 2) :: calm_down(0, 1, 3) :: calm_down(1, 0, 3) ::    \
       calm_down(0, 2, 1) :: calm_down(2, 0, 1) :: calm_down(1, 2, 0) :: calm_down(2, 1, 0) ::    \
       calm_down(0, 3, 1) :: calm_down(3, 0, 1) :: calm_down(1, 3, 0) :: calm_down(3, 1, 0)
#endif
#else
#define CALMS
#endif

/* --- what depends on the number of generations -------------------------------------------------- */

#if GENERATIONS >= 3
#define IF_3(x) x
#else
#define IF_3(x)
#endif
#if GENERATIONS >= 4
#define IF_4(x) x
#else
#define IF_4(x)
#endif
#if GENERATIONS >= 5
#define IF_5(x) x
#else
#define IF_5(x)
#endif

/* --- I6 under fairness ---------------------------------------------------------------------------- */

#ifdef FAIR
#define MAY_TALK(i) (n[i].life == REGISTERED && n[i].complete)

/* Two complete nodes and an orchestrator talk; the third one, t, does or does not. */
inline faults_stop(c, o, t)
{
    d_step {
        MAY_TALK(c) && MAY_TALK(o) ->
        calm = 1;
        if
        :: true -> absent = t + 1
        :: true
        fi
    };
    goto stopped
}

#define STREAMS(i, l) (FOLLOWS(i, l) && n[i].complete && PREFIX(n[i].log, n[l].log))
#define SERVED_BY(l, i, j) (n[l].leads && (STREAMS(i, l) || STREAMS(j, l)))
#define SERVES (SERVED_BY(0, 1, 2) || SERVED_BY(1, 0, 2) || SERVED_BY(2, 0, 1))
/* Promised more than a leader's generation: it cannot follow. */
#define STRANDED_FROM(l, i) (n[l].leads && PRESENT(l) && PRESENT(i) && n[i].generation > n[l].generation)
#define STRANDED                                                                                  \
    (STRANDED_FROM(0, 1) || STRANDED_FROM(0, 2) || STRANDED_FROM(1, 0) || STRANDED_FROM(1, 2) ||  \
     STRANDED_FROM(2, 0) || STRANDED_FROM(2, 1))
#define HAS_ALL(i, l) ((i) + 1 == absent || (FOLLOWS(i, l) && n[i].complete && n[i].log == n[l].log))
#define WHOLE_BEHIND(l, i, j) (n[l].leads && PRESENT(l) && HAS_ALL(i, l) && HAS_ALL(j, l))
#define WHOLE (WHOLE_BEHIND(0, 1, 2) || WHOLE_BEHIND(1, 0, 2) || WHOLE_BEHIND(2, 0, 1))

inline open_highest()
{
    d_step { !opened && (!SERVES || STRANDED) -> opened = 1 }
}

/* Those that are told, and do what they have to do next; each goes on as long as it can. */
#define TOLD(i, a, b, g) :: follow(i, g, 0, a) :: follow(i, g, 0, b)
#define FROM(i, l) :: copy(i, l) :: take_target(i, l) :: finish(i, l) :: rewind(i, l)
#define AGENT(i, a, b)                                                                            \
    calm;                                                                                         \
    do                                                                                            \
    :: lead(i, HIGHEST, 0)                                                                        \
    TOLD(i, a, b, 1) TOLD(i, a, b, 2) IF_3(TOLD(i, a, b, 3)) TOLD(i, a, b, HIGHEST)               \
    FROM(i, a) FROM(i, b)                                                                         \
    od

active proctype orchestrator()
{
    calm;
end:
    do
    :: open_highest()
    :: promise(0, HIGHEST, 0)
    :: promise(1, HIGHEST, 0)
    :: promise(2, HIGHEST, 0)
    :: elect(HIGHEST, 0, 0, 1) :: elect(HIGHEST, 0, 0, 2) :: elect(HIGHEST, 0, 1, 0)
    :: elect(HIGHEST, 0, 1, 2) :: elect(HIGHEST, 0, 2, 0) :: elect(HIGHEST, 0, 2, 1)
    od
}

active proctype agent_0() { AGENT(0, 1, 2) }
active proctype agent_1() { AGENT(1, 0, 2) }
active proctype agent_2() { AGENT(2, 0, 1) }

/* Faults have stopped for good: then, from some moment on, there is a leader whom all that are
 * there follow with complete data. */
ltl calms_down { [] (calm -> <> [] WHOLE) }
#define FAULTS_STOP                                                                               \
    :: faults_stop(0, 1, 2) :: faults_stop(0, 2, 1) :: faults_stop(1, 2, 0)
#else
#define FAULTS_STOP
#endif

/* --- the one process: any step that can be taken, in any order ------------------------------------- */

#if PROPOSERS == 1
#define ALL_PROPOSERS(step, i, g) :: step(i, g, 0)
#define ALL_PROPOSERS_PAIR(step, g, i, j) :: step(g, 0, i, j)
#define ALL_PROPOSERS_LAST(step, i, g, j) :: step(i, g, 0, j)
#else
#define ALL_PROPOSERS(step, i, g) :: step(i, g, 0) :: step(i, g, 1)
#define ALL_PROPOSERS_PAIR(step, g, i, j) :: step(g, 0, i, j) :: step(g, 1, i, j)
#define ALL_PROPOSERS_LAST(step, i, g, j) :: step(i, g, 0, j) :: step(i, g, 1, j)
#endif

#define ELECTIONS_OF(step, i)                                                                     \
    ALL_PROPOSERS(step, i, 1) ALL_PROPOSERS(step, i, 2) IF_3(ALL_PROPOSERS(step, i, 3))           \
    IF_4(ALL_PROPOSERS(step, i, 4)) IF_5(ALL_PROPOSERS(step, i, 5))
#define ELECTIONS_OF_PAIR(step, i, j)                                                             \
    ALL_PROPOSERS_PAIR(step, 1, i, j) ALL_PROPOSERS_PAIR(step, 2, i, j)                           \
    IF_3(ALL_PROPOSERS_PAIR(step, 3, i, j)) IF_4(ALL_PROPOSERS_PAIR(step, 4, i, j))               \
    IF_5(ALL_PROPOSERS_PAIR(step, 5, i, j))
#define ELECTIONS_TOLD(step, i, j)                                                                \
    ALL_PROPOSERS_LAST(step, i, 1, j) ALL_PROPOSERS_LAST(step, i, 2, j)                           \
    IF_3(ALL_PROPOSERS_LAST(step, i, 3, j)) IF_4(ALL_PROPOSERS_LAST(step, i, 4, j))               \
    IF_5(ALL_PROPOSERS_LAST(step, i, 5, j))

#if PROPOSERS == 1
#define EACH_PROPOSER(all, g) all(g, 0)
#else
#define EACH_PROPOSER(all, g) all(g, 0) all(g, 1)
#endif
#define ELECTIONS_EACH(all)                                                                       \
    EACH_PROPOSER(all, 1) EACH_PROPOSER(all, 2) IF_3(EACH_PROPOSER(all, 3))                       \
    IF_4(EACH_PROPOSER(all, 4)) IF_5(EACH_PROPOSER(all, 5))

#define OVERRIDES(g, p) :: override(g, p)

#define STEP(step, i, j) :: step(i, j)

/* For machines i, and for pairs that hold different slots. */
#if REPLACED == 0
#define MACHINES_OF(all, step) all(step, 0) all(step, 1) all(step, 2)
#define ORDERED(all, step)                                                                        \
    all(step, 0, 1) all(step, 0, 2) all(step, 1, 0) all(step, 1, 2) all(step, 2, 0) all(step, 2, 1)
#elif REPLACED == 1
#define MACHINES_OF(all, step) all(step, 0) all(step, 1) all(step, 2) all(step, 3)
#define ORDERED(all, step)                                                                        \
    all(step, 0, 1) all(step, 0, 2) all(step, 1, 0) all(step, 1, 2) all(step, 2, 0) all(step, 2, 1) \
    all(step, 0, 3) all(step, 3, 0) all(step, 1, 3) all(step, 3, 1)
#else
#define MACHINES_OF(all, step) all(step, 0) all(step, 1) all(step, 2) all(step, 3) all(step, 4)
#define ORDERED(all, step)                                                                        \
    all(step, 0, 1) all(step, 0, 2) all(step, 1, 0) all(step, 1, 2) all(step, 2, 0) all(step, 2, 1) \
    all(step, 0, 3) all(step, 3, 0) all(step, 1, 3) all(step, 3, 1) all(step, 0, 4) all(step, 4, 0) \
    all(step, 2, 4) all(step, 4, 2) all(step, 3, 4) all(step, 4, 3)
#endif
#define ONE(step, i) :: step(i)

/* Leave: the asker, its leader, the other follower. */
#define PERMITS                                                                                   \
    :: permit(0, 1, 2) :: permit(0, 2, 1) :: permit(1, 0, 2) :: permit(1, 2, 0) ::                \
       permit(2, 0, 1) :: permit(2, 1, 0)
#if REPLACED >= 1
#define PERMITS_3                                                                                 \
    :: permit(0, 1, 3) :: permit(0, 3, 1) :: permit(1, 0, 3) :: permit(1, 3, 0) ::                \
       permit(3, 0, 1) :: permit(3, 1, 0)
#else
#define PERMITS_3
#endif
#if REPLACED >= 2
#define PERMITS_4                                                                                 \
    :: permit(0, 4, 2) :: permit(0, 2, 4) :: permit(4, 0, 2) :: permit(4, 2, 0) ::                \
       permit(2, 0, 4) :: permit(2, 4, 0) :: permit(0, 4, 3) :: permit(0, 3, 4) ::                \
       permit(4, 0, 3) :: permit(4, 3, 0) :: permit(3, 0, 4) :: permit(3, 4, 0)
#else
#define PERMITS_4
#endif

init {
#ifdef BIRTH
    d_step {
        n[0].life = NEW;
        n[1].life = NEW;
        n[2].life = NEW
    };
#else
    d_step {
        n[0].life = REGISTERED;
        n[1].life = REGISTERED;
        n[2].life = REGISTERED;
        n[0].complete = 1;
        n[1].complete = 1;
        n[2].complete = 1
    };
#endif

end:
    do
    MACHINES_OF(ELECTIONS_OF, promise)
    ORDERED(ELECTIONS_OF_PAIR, elect)
    MACHINES_OF(ELECTIONS_OF, lead)
    ORDERED(ELECTIONS_TOLD, follow)
    MACHINES_OF(ONE, stop)
    MACHINES_OF(ONE, append)
    ORDERED(STEP, copy)
    ORDERED(STEP, take_target)
    ORDERED(STEP, finish)
    ORDERED(STEP, rewind)
#ifdef FAILING
    ORDERED(STEP, rewind_fails)
#endif
    ORDERED(STEP, clone)
    PERMITS PERMITS_3 PERMITS_4
    MACHINES_OF(ONE, expire)
#ifdef BIRTH
    ELECTIONS_EACH(ALL_BIRTHS)
    ORDERED(STEP, hear_of_end)
    ORDERED(STEP, count_again)
#ifdef LOSS
    MACHINES_OF(ONE, lose_disk)
#endif
#endif
#ifdef SPLIT_FENCE
    MACHINES_OF(ONE, fence)
    MACHINES_OF(ELECTIONS_OF, read_position)
    MACHINES_OF(ELECTIONS_OF, cast_vote)
    ORDERED(STEP, copy_as_before)
#endif
#if REPLACED >= 1
    :: appear(3)
    :: register(3, 0) :: register(3, 1)
#ifdef OVERRIDE
    ELECTIONS_EACH(OVERRIDES)
#endif
    ORDERED(STEP, learn)
    MACHINES_OF(ONE, rename)
#endif
#if REPLACED >= 2
    :: appear(4)
    :: register(3, 4) :: register(4, 0) :: register(4, 2) :: register(4, 3)
#endif
    CALMS
    FAULTS_STOP
    od;

#if defined(FAIR)
    /* Nobody need do this: what was sent before arrives late or never, others elect, clients write. */
stopped:
    do
    MACHINES_OF(ELECTIONS_OF, promise)
    ORDERED(ELECTIONS_OF_PAIR, elect)
    MACHINES_OF(ELECTIONS_OF, lead)
    MACHINES_OF(ONE, append)
    :: noise = 1 - noise /* a message that is refused */
    od
#elif defined(CALM)
over:
    skip;
    d_step {
        forget_everything();
        calm = 0
    }
end_over:
    false
#else
    skip
#endif
}
