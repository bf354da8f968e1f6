"""What tests/model/run searches, and the broken rules that it must find out."""

# Sizes that fit into 4 GB. `short` ones together take less than a minute, `long` ones a quarter of an hour.
CONFIGURATIONS = {
    "core-short": {"defines": {"GENERATIONS": 3, "ENTRIES": 2, "PROPOSERS": 1}, "short": True},
    "replaced-short": {"defines": {"GENERATIONS": 2, "ENTRIES": 1, "REPLACED": 1, "PROPOSERS": 1}, "short": True},
    "birth-short": {"defines": {"GENERATIONS": 2, "ENTRIES": 1, "BIRTH": "", "LOSS": "", "PROPOSERS": 1},
                    "short": True},
    "calm-short": {"defines": {"GENERATIONS": 2, "ENTRIES": 2, "CALM": "", "PROPOSERS": 1}, "short": True},
    "core": {"defines": {"GENERATIONS": 4, "ENTRIES": 2}, "hash_bits": 26, "optimise": "-O1"},
    "fence": {"defines": {"GENERATIONS": 3, "ENTRIES": 2, "SPLIT_FENCE": "", "PROPOSERS": 1}},
    "failing": {"defines": {"GENERATIONS": 3, "ENTRIES": 2, "FAILING": "", "PROPOSERS": 1}},
    "birth": {"defines": {"GENERATIONS": 3, "ENTRIES": 1, "BIRTH": "", "LOSS": "", "PROPOSERS": 1}},
    "replaced": {"defines": {"GENERATIONS": 3, "ENTRIES": 1, "REPLACED": 1, "PROPOSERS": 1}, "hash_bits": 26,
                 "optimise": "-O1"},
    "override": {"defines": {"GENERATIONS": 2, "ENTRIES": 1, "REPLACED": 1, "OVERRIDE": "", "PROPOSERS": 1}},
    "calm": {"defines": {"GENERATIONS": 3, "ENTRIES": 2, "CALM": "", "PROPOSERS": 1}},
    "fair": {"defines": {"GENERATIONS": 2, "ENTRIES": 1, "FAIR": "", "PROPOSERS": 1}, "formula": "calms_down",
             "hash_bits": 24, "optimise": "-O1"},
    "replaced-two": {"defines": {"GENERATIONS": 2, "ENTRIES": 1, "REPLACED": 2, "PROPOSERS": 1}, "hash_bits": 26,
                     "optimise": "-O1", "long": True},
}

# Each mutant replaces texts of ogel.pml that stand there exactly once. `violates` are the invariants of which one
# must be found violated; I4 and I5 are not asked where the mutant breaks them by itself.
CORE = {"GENERATIONS": 2, "ENTRIES": 2, "PROPOSERS": 1}
RIVALS = {"GENERATIONS": 2, "ENTRIES": 2}
THREE = {"GENERATIONS": 3, "ENTRIES": 2, "PROPOSERS": 1}
SPLIT = {"GENERATIONS": 2, "ENTRIES": 2, "SPLIT_FENCE": "", "PROPOSERS": 1}
ONE_REPLACED = {"GENERATIONS": 2, "ENTRIES": 1, "REPLACED": 1, "PROPOSERS": 1}
CALM = {"GENERATIONS": 2, "ENTRIES": 2, "CALM": "", "PROPOSERS": 1}
FAIR = {"GENERATIONS": 2, "ENTRIES": 1, "FAIR": "", "PROPOSERS": 1}
BIRTH = {"GENERATIONS": 2, "ENTRIES": 1, "BIRTH": "", "PROPOSERS": 1}
DATA = ("I1", "I2", "I3")


def mutant(defines, violates, *edits, **more):
    return {"defines": {**defines, **more}, "violates": (violates,) if isinstance(violates, str) else violates,
            "edits": edits}


def unfair(settings, *flags):
    """Searched for a fair run that never comes to a leader; with other flags than -f for any such run."""
    return {**settings, "formula": "calms_down", "flags": flags}


MUTANTS = {
    # elections
    "vote-without-fencing": mutant(
        SPLIT, DATA,
        ("        n[i].old == 0 && COUNT(MAY_COME, g, p) >= 2 ->", "        COUNT(MAY_COME, g, p) >= 2 ->"),
        ("        WAITS(i, g, p) && n[i].read != 0 &&\n        n[i].old == 0 ->",
         "        WAITS(i, g, p) && n[i].read != 0 ->")),
    "position-from-before-the-fence": mutant(
        SPLIT, DATA,
        ("        n[i].old == 0 && COUNT(MAY_COME, g, p) >= 2 ->", "        COUNT(MAY_COME, g, p) >= 2 ->")),
    "promise-forgotten-at-restart": mutant(
        CORE, DATA,
        ("inline append(i)", "inline forget_promise(i)\n{\n    d_step {\n        n[i].generation > 0 ->\n"
                             "        n[i].generation = n[i].generation - 1;\n        n[i].fact = 0;\n"
                             "        stand_down(i)\n    }\n}\n\ninline append(i)"),
        ("    MACHINES_OF(ONE, append)\n    ORDERED(STEP, copy)",
         "    MACHINES_OF(ONE, append)\n    MACHINES_OF(ONE, forget_promise)\n    ORDERED(STEP, copy)"),
        NO_I4=""),
    "lsn-before-timeline": mutant(
        THREE, DATA,
        ("#define AHEAD(a, b) (((a) & 31) >= ((b) & 31))",
         "#define AHEAD(a, b) (((((a) & 31) - 1) & 3) >= ((((b) & 31) - 1) & 3))")),
    "position-not-looked-at": mutant(
        CORE, DATA, ("#define AHEAD(a, b) (((a) & 31) >= ((b) & 31))", "#define AHEAD(a, b) (true)")),
    "legal-with-one": mutant(
        CORE, DATA, ("VOTE(g, p, c) != 0 && VOTE(g, p, x) != 0 &&", "VOTE(g, p, c) != 0 &&")),
    "old-leader-counted-double": mutant(
        THREE, DATA,
        ("VOTE(g, p, c) != 0 && VOTE(g, p, x) != 0 &&",
         "VOTE(g, p, c) != 0 && (VOTE(g, p, x) != 0 || (VOTE(g, p, c) & 64)) &&"),
        ("#ifndef SPLIT_FENCE\n        n[i].generation = g;",
         "#ifndef SPLIT_FENCE\n        before = n[i].fact == i + 1;\n        n[i].generation = g;"),
        ("            VOTE(g, p, i) = (END(i) + 1) | (n[i].complete << 5) | (n[i].known << 6)\n",
         "            VOTE(g, p, i) = (END(i) + 1) | (n[i].complete << 5) | (before << 6); before = 0\n")),
    "granted-twice": mutant(
        CORE, "I2",
        ("        grant[ELECTION(g, p)] == 0 && IS_ELECTION(g, p) ->\n        grant[ELECTION(g, p)] = (1 << c)",
         "        !(grant[ELECTION(g, p)] & (1 << c)) ->\n        grant[ELECTION(g, p)] = grant[ELECTION(g, p)] | "
         "(1 << c)"),
        ("(((VOTE(g, p, c) | VOTE(g, p, x)) >> 6) << 5);\n        forget_votes(g, p)\n",
         "(((VOTE(g, p, c) | VOTE(g, p, x)) >> 6) << 5)\n"),
        ("    :: grant[ELECTION(g, p)] != 0 || COUNT", "    :: COUNT")),
    "spent-grant-used-again": mutant(
        CORE, (*DATA,),
        ("        n[i].proposer == p &&\n        n[i].fact == 0 &&\n",
         "        n[i].proposer == p &&\n        (n[i].fact == 0 || n[i].fact == i + 1 && !n[i].leads) &&\n")),
    "votes-for-another-proposer-counted": mutant(
        RIVALS, DATA,
        ("VOTE(g, p, c) != 0 && VOTE(g, p, x) != 0 &&",
         "VOTE(g, p, c) != 0 && (VOTE(g, p, x) != 0 || VOTE(g, 1 - p, x) != 0) &&")),
    "stale-messages-obeyed": mutant(
        CORE, DATA,
        ("n[i].life == REGISTERED && n[i].generation < g && IN_ORDER",
         "n[i].life == REGISTERED && n[i].generation != g && IN_ORDER"), NO_I4=""),
    "rewound-leads": mutant(
        {**THREE, "FAILING": ""}, DATA,
        ("        MAY_LEAD(VOTE(g, p, c)) &&\n", ""),
        ("        (n[i].complete || FOUNDS(i, g, p)) &&\n", "")),
    # complete data
    "complete-as-soon-as-consistent": mutant(
        CORE, DATA,
        ("        n[i].target != 0 &&\n        n[i].target <= LENGTH(n[i].log) + 1 ->\n",
         "        FOLLOWS(i, l) && PREFIX(n[i].log, n[l].log) ->\n")),
    "clone-is-counted": mutant(
        CORE, "I5", ("        :: n[i].complete && ADMITS(n[l].names, i) -> acknowledge(i, l)",
                     "        :: !n[i].rewound && ADMITS(n[l].names, i) -> acknowledge(i, l)")),
    "rewound-is-counted": mutant(
        CORE, "I5", ("        :: n[i].complete && ADMITS(n[l].names, i) -> acknowledge(i, l)",
                     "        :: (n[i].complete || n[i].rewound) && ADMITS(n[l].names, i) -> acknowledge(i, l)")),
    "clone-votes": mutant(
        CORE, DATA,
        ("        give_up_copy(i);\n        I6", "        give_up_copy(i);\n        n[i].rewound = 1;\n        I6")),
    "fork-not-in-the-vote": mutant(
        {**THREE, "FAILING": ""}, DATA,
        ("#define END(i) (POSITION(n[i].log) > n[i].fork -> POSITION(n[i].log) : n[i].fork)",
         "#define END(i) POSITION(n[i].log)")),
    "discard-without-leave": mutant(
        CORE, "I6", ("((n[i].complete || n[i].rewound) -> n[i].leave : n[i].log != 0 || n[i].target != 0) ->",
                     "(n[i].complete || n[i].log != 0) ->")),
    "leave-for-both": mutant(
        CORE, "I6", ("FOLLOWS(j, l) && n[j].complete && !n[j].leave ->", "FOLLOWS(j, l) && n[j].complete ->")),
    "attach-without-comparing": mutant(
        THREE, DATA,
        ("        FOLLOWS(i, l) && n[i].log != n[l].log &&\n        PREFIX(n[i].log, n[l].log) ->\n"
         "        n[i].log = ONE_MORE(n[i].log, n[l].log);",
         "        FOLLOWS(i, l) && LENGTH(n[i].log) < LENGTH(n[l].log) ->\n        n[i].log = n[i].log + "
         "(n[l].log & (7 << (3 * LENGTH(n[i].log))));")),
    "lost-disk-votes": mutant(
        CORE, DATA,
        ("inline append(i)", "inline lose_disk(i)\n{\n    d_step {\n        n[i].generation > 0 && n[i].log != 0 ->\n"
                             "        n[i].log = 0;\n        n[i].fact = 0;\n        n[i].generation = 0;\n"
                             "        stand_down(i)\n    }\n}\n\ninline append(i)"),
        ("    MACHINES_OF(ONE, append)\n    ORDERED(STEP, copy)",
         "    MACHINES_OF(ONE, append)\n    MACHINES_OF(ONE, lose_disk)\n    ORDERED(STEP, copy)")),
    # replaced machines
    "replaced-machine-votes": mutant(
        ONE_REPLACED, DATA,
        ("        !OUTDATED(c, VOTE(g, p, x) >> 6) &&\n        !OUTDATED(x, VOTE(g, p, c) >> 6) &&\n", "")),
    "registered-at-one-peer": mutant(
        ONE_REPLACED, DATA,
        ("        :: n[m].at == BOTH_OTHERS(m) || SURVIVOR_ALONE(m) ->", "        :: n[m].at != 0 ->")),
    "name-without-incarnation": mutant(
        ONE_REPLACED, DATA,
        ("    ((i) == 0 || ((i) == 1 && !((names) & 2)) || ((i) == 2 && !((names) & 1)) ||                  \\\n"
         "     ((i) == 3 && ((names) & 1)) || ((i) == 4 && ((names) & 2)))", "    (true)")),
    "old-name-stays-in-n": mutant(
        ONE_REPLACED, DATA,
        ("        n[x].names = (n[x].leads -> n[x].known : 0);\n", ""),
        ("     n[i].life == REGISTERED && ADMITS(n[l].names, i))",
         "     n[i].life == REGISTERED && (ADMITS(n[l].names, i) || ADMITS(n[l].known, i)))")),
    "n-of-what-r-knew": mutant(
        ONE_REPLACED, DATA,
        ("        n[i].names = n[i].known;\n        n[i].leads = 1;",
         "        n[i].names = grant[ELECTION(g, p)] >> 5;\n        n[i].leads = 1;"),
        ("     n[i].life == REGISTERED && ADMITS(n[l].names, i))",
         "     n[i].life == REGISTERED && (ADMITS(n[l].names, i) || ADMITS(n[l].known, i)))")),
    # birth
    "birth-begins-again-after-its-end": mutant(
        BIRTH, DATA,
        ("n[i].generation < g && (n[i].life == NEW || n[i].unborn) &&\n"
         "        NOT_BORN(y, g) && NOT_BORN(z, g) ->",
         "        n[i].generation < g ->")),
    "birth-promised-again-after-its-grant": mutant(
        {**BIRTH, "LOSS": ""}, DATA,
        ("    (!BORN(y) && (n[y].generation < (g) || (n[y].generation == (g) && n[y].fact == 0)))", "    (!BORN(y))")),
    "birth-promised-whoever-knows-better": mutant(
        {**BIRTH, "LOSS": ""}, DATA, (" &&\n        NOT_BORN(y, g) && NOT_BORN(z, g) ->", " ->")),
    "acknowledged-before-the-end-of-birth-is-known": mutant(
        {**BIRTH, "LOSS": ""}, DATA,
        ("#define KNOWS_BIRTH_ENDED(i) (!n[i].unborn)", "#define KNOWS_BIRTH_ENDED(i) (true)")),
    "election-opened-with-one-voter": mutant(
        {**BIRTH, "LOSS": ""}, DATA, ("#define MAY_OPEN(i) (able[n[i].cluster - 1] == TWO_ABLE)",
                                      "#define MAY_OPEN(i) (true)"), GENERATIONS=3),
    # progress
    "legal-with-three": mutant(
        CALM, "I6",
        ("VOTE(g, p, c) != 0 && VOTE(g, p, x) != 0 &&",
         "VOTE(g, p, 0) != 0 && VOTE(g, p, 1) != 0 && VOTE(g, p, 2) != 0 &&")),
    "equals-are-not-granted": mutant(
        CALM, "I6",
        ("#define AHEAD(a, b) (((a) & 31) >= ((b) & 31))", "#define AHEAD(a, b) (((a) & 31) > ((b) & 31))")),
    "promised-node-does-not-follow": mutant(
        CALM, "I6",
        ("(n[i].generation < g || (n[i].generation == g && n[i].fact == 0)) &&", "n[i].generation < g &&")),
    # progress of each fair run
    "nobody-has-to-act": unfair(mutant(FAIR, "I6")),
    "nobody-opens-an-election": unfair(
        mutant(FAIR, "I6", ("!opened && (!SERVES || STRANDED) -> opened = 1", "false -> opened = 1")), "-f"),
    "followers-are-not-told": unfair(
        mutant(FAIR, "I6", (" IF_3(TOLD(i, a, b, 3)) TOLD(i, a, b, HIGHEST) ", " IF_3(TOLD(i, a, b, 3))           ")),
        "-f"),
}
