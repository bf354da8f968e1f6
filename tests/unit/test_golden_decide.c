/*
 * Replays tests/golden/decide/: scenarios that people can read. A line is a command; the lines
 * beginning with ">" below it are what decide() has to answer. OGEL_GOLDEN_WRITE=1 writes the
 * answers anew: review the diff.
 *
 *   # …                              a remark
 *   blank | healthy n1 g5            three empty machines | n1 leads generation 5, both others
 * stream decide [+250]                    let time pass, then decide obey n1 n2 these do what the
 * last plan told them vote n2 5/1000                   fenced, with its flushed end (LSN in hex)
 *   lead n2, stream n3               it leads, it streams from the leader it follows
 *   cut n2                           nothing streams to it any more
 *   lose n1 silent|refuses           its machine is off the net | answers with resets
 *   peers n1 agent|noagent VERDICT   how the other two see it
 *   n1 KEY=VALUE …                   any field, see node_set()
 *   request init|failover|switchover|job|document|none [n2] [destroyed=n1,n3]
 *   forget                           the orchestrator is restarted
 */
#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/decide_scene.h"

enum { FILES_MAX = 128, LINE_SIZE = 512, TEXT_SIZE = 256 * 1024 };

static char files[FILES_MAX][256];
static char directory[512];
static bool produced[REASON_COUNT];

static const char *const probe_words[] = {"unknown",  "primary", "standby", "refused",
                                          "starting", "silent",  "broken",  NULL};
static const char *const pg_words[] = {"absent",   "down",    "starting", "up",
                                       "stopping", "crashed", NULL};
static const char *const phase_words[] = {"idle",      "birth",   "leader_first",
                                          "promising", "granted", "document"};
static const char *const role_words[] = {"none", "fenced", "leader", "follower", NULL};

/* --- reading --- */

struct scenario {
    const char *file;
    int line;
    struct scene scene;
    uint64_t request_id;
};

static void bad_line(const struct scenario *scenario, const char *word)
{
    fail_msg("%s:%d: cannot read \"%s\"", scenario->file, scenario->line, word);
}

static int word_index(const struct scenario *scenario, const char *const *words, const char *word)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], word) == 0)
            return i;
    }
    bad_line(scenario, word);
    return 0;
}

static int32_t node_named(const struct scenario *scenario, const char *word)
{
    if (word == NULL || word[0] != 'n' || word[1] < '1' || word[1] > '3' || word[2] != '\0')
        bad_line(scenario, word != NULL ? word : "(nothing)");
    return word[1] - '1';
}

static bool yes(const char *value)
{
    return strcmp(value, "yes") == 0;
}

static uint32_t number(const char *value)
{
    return (uint32_t)strtoul(value, NULL, 10);
}

/* Fields of the report whose key carries a node: void.n2=1, incarnation.n2=2, fenced.n2=yes,
 * reaches.n2=no. */
static bool report_set_of(const struct scenario *scenario, struct report *report, const char *key,
                          const char *value)
{
    const char *dot = strchr(key, '.');
    int32_t node;

    if (dot == NULL)
        return false;
    node = node_named(scenario, dot + 1);
    if (strncmp(key, "void.", 5) == 0)
        report->void_number[node] = number(value);
    else if (strncmp(key, "incarnation.", 12) == 0)
        report->incarnations[node].number = number(value);
    else if (strncmp(key, "fenced.", 7) == 0)
        report->document.fenced[node] = yes(value);
    else if (strncmp(key, "reaches.", 8) == 0)
        report->peers[node].agent_reachable = yes(value);
    else if (strncmp(key, "finds.", 6) == 0)
        report->peers[node].postgres = (enum probe_verdict)word_index(scenario, probe_words, value);
    else
        return false;
    return true;
}

/* "9", or with its generation: "6.9" */
static void set_document(struct document_version *version, const char *value)
{
    const char *dot = strchr(value, '.');

    if (dot != NULL)
        version->generation = number(value);
    version->counter = number(dot != NULL ? dot + 1 : value);
}

static bool report_set(const struct scenario *scenario, struct report *report, const char *key,
                       const char *value)
{
    if (strcmp(key, "pg") == 0)
        report->pg = (enum pg_state)word_index(scenario, pg_words, value);
    else if (strcmp(key, "role") == 0)
        report->role = (enum role)word_index(scenario, role_words, value);
    else if (strcmp(key, "leading") == 0)
        report->leading = yes(value);
    else if (strcmp(key, "recovery") == 0)
        report->in_recovery = yes(value);
    else if (strcmp(key, "complete") == 0)
        report->complete = yes(value);
    else if (strcmp(key, "rewound") == 0)
        report->rewound = yes(value);
    else if (strcmp(key, "registered") == 0)
        report->registered = yes(value);
    else if (strcmp(key, "birth_ended") == 0)
        report->birth_ended = yes(value);
    else if (strcmp(key, "blank") == 0)
        report->blank = yes(value);
    else if (strcmp(key, "maintenance") == 0)
        report->document.maintenance = yes(value);
    else if (strcmp(key, "accepts_writes") == 0)
        report->accepts_writes = yes(value);
    else if (strcmp(key, "local_failing_ms") == 0)
        report->local_probe_failing_ms = number(value);
    else if (strcmp(key, "timeline") == 0)
        report->timeline = number(value);
    else if (strcmp(key, "document") == 0)
        set_document(&report->document.version, value);
    else if (strcmp(key, "cluster") == 0)
        report->cluster.bytes[0] = (uint8_t)number(value);
    else if (strcmp(key, "promise") == 0)
        sscanf(value, "%" SCNu32 "/%" SCNu64, &report->promise.generation,
               &report->promise.proposer);
    else if (strcmp(key, "replay") == 0)
        report->vote.replay_lsn = strtoull(value, NULL, 16);
    else
        return false;
    return true;
}

static void node_set(const struct scenario *scenario, struct node_view *node, const char *key,
                     const char *value)
{
    if (report_set(scenario, &node->report, key, value) ||
        report_set_of(scenario, &node->report, key, value))
        return;
    if (strcmp(key, "reachable") == 0) {
        node->reachable = yes(value);
        node->refuses = false;
        node->unreachable_ms = 0;
        node->report_age_ms = node->known && node->reachable ? 0 : node->report_age_ms;
    } else if (strcmp(key, "known") == 0) {
        node->known = yes(value);
    } else if (strcmp(key, "probe") == 0) {
        node->postgres = (enum probe_verdict)word_index(scenario, probe_words, value);
        node->postgres_age_ms = 0;
    } else if (strcmp(key, "probe_failing_ms") == 0) {
        node->postgres_failing_ms = number(value);
    } else if (strcmp(key, "refused") == 0) {
        node->refused_message = true;
        sscanf(value, "%" SCNu32 "/%" SCNu64, &node->refused_with.generation,
               &node->refused_with.proposer);
    } else {
        bad_line(scenario, key);
    }
}

static void make_request(struct scenario *scenario, char **words)
{
    static const char *const kinds[] = {"none", "init",     "failover", "switchover",
                                        "job",  "document", NULL};
    struct request *request = &scenario->scene.view.request;

    memset(request, 0, sizeof(*request));
    request->id = ++scenario->request_id;
    request->target = NODE_NONE;
    request->cluster.bytes[0] = (uint8_t)(0xd0 + request->id);
    request->kind = (enum request_kind)word_index(scenario, kinds, words[1]);
    request->job.id = 100 + request->id;
    request->job.kind = JOB_RESTART;
    for (int i = 2; words[i] != NULL; i++) {
        if (sscanf(words[i], "snapshot=%31[^@]@%" SCNu32, request->source.id,
                   &request->source.timeline) == 2) {
            request->job.kind = JOB_REINIT;
            continue;
        }
        if (strncmp(words[i], "destroyed=", 10) != 0) {
            request->target = node_named(scenario, words[i]);
            continue;
        }
        for (char *word = strtok(words[i] + 10, ","); word != NULL; word = strtok(NULL, ","))
            request->destroyed[node_named(scenario, word)] = true;
    }
}

/* --- writing --- */

static const char *name(int32_t node)
{
    static const char *const names[] = {"n1", "n2", "n3"};

    return node == NODE_NONE ? "-" : names[node];
}

static const char *code(enum reason reason)
{
    produced[reason] = true;
    return reason_code(reason);
}

static void print_desired(FILE *out, int32_t node, const struct desired *message)
{
    fprintf(out, "> send %s %s g%" PRIu32, name(node), role_words[message->role],
            message->generation);
    if (message->role == ROLE_FOLLOWER)
        fprintf(out, " of %s", name(message->leader.node));
    if (message->birth)
        fprintf(out, " birth of %s", name(message->leader.node));
    if (message->planned)
        fprintf(out, " politely");
    if (message->role == ROLE_LEADER) {
        fprintf(out, " incarnations");
        for (int32_t i = 0; i < NODE_COUNT; i++)
            fprintf(out, " %" PRIu32, message->incarnations[i].number);
        fprintf(out, " document %" PRIu32 ".%" PRIu32, message->document.generation,
                message->document.counter);
    }
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (message->destroyed_number[i] != 0)
            fprintf(out, " void %s<=%" PRIu32, name(i), message->destroyed_number[i]);
    }
    if (message->job.id != 0)
        fprintf(out, " job %" PRIu64, message->job.id);
    if (message->source.id[0] != '\0')
        fprintf(out, " from snapshot %s", message->source.id);
    fprintf(out, "\n");
}

static void print_plan(FILE *out, const struct plan *plan)
{
    if (plan->memory.phase != PHASE_IDLE)
        fprintf(out, "> phase %s g%" PRIu32 "\n", phase_words[plan->memory.phase],
                plan->memory.generation);
    for (uint32_t i = 0; i < plan->event_count; i++)
        fprintf(out, "> event %s %s g%" PRIu32 "\n", code(plan->events[i].reason),
                name(plan->events[i].node), plan->events[i].generation);
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (plan->send[i])
            print_desired(out, i, &plan->message[i]);
    }
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (plan->probe[i])
            fprintf(out, "> probe %s\n", name(i));
    }
    if (plan->write.due) {
        fprintf(out, "> write at %s, held by", name(plan->write.at));
        for (int32_t i = 0; i < NODE_COUNT; i++) {
            if (plan->write.promised[i])
                fprintf(out, " %s", name(i));
        }
        fprintf(out, "\n");
    }
    if (plan->request_settled)
        fprintf(out, "> request %s %s %s\n", plan->request_ok ? "done" : "refused",
                code(plan->request_reason), name(plan->request_node));
    fprintf(out, "> leader %s g%" PRIu32 " %s%s%s, failover %s", name(plan->leader),
            plan->generation, plan->writable ? "writable" : "not writable ",
            plan->writable ? "" : code(plan->not_writable),
            plan->maintenance ? ", maintenance" : "",
            plan->failover_possible ? "possible" : "impossible");
    for (uint32_t i = 0; i < plan->blocker_count; i++)
        fprintf(out, " %s:%s", code(plan->blockers[i].reason), name(plan->blockers[i].node));
    fprintf(out, "\n> wake %" PRIu32 "\n", plan->wake_ms);
}

/* --- running --- */

static void for_each_node(struct scenario *scenario, char **words,
                          void (*act)(struct scene *, int32_t))
{
    for (int i = 1; words[i] != NULL; i++)
        act(&scenario->scene, node_named(scenario, words[i]));
}

static void run_vote(struct scenario *scenario, char **words)
{
    uint32_t timeline = 0;
    uint64_t lsn = 0;

    if (words[2] == NULL || sscanf(words[2], "%" SCNu32 "/%" SCNx64, &timeline, &lsn) != 2)
        bad_line(scenario, words[0]);
    scene_vote(&scenario->scene, node_named(scenario, words[1]), timeline, lsn);
}

static void run_command(struct scenario *scenario, char **words, FILE *out)
{
    struct scene *scene = &scenario->scene;
    const char *verb = words[0];

    if (strcmp(verb, "decide") == 0) {
        scene_advance(scene, words[1] != NULL ? number(words[1] + 1) : 0);
        scene_decide(scene);
        print_plan(out, &scene->plan);
    } else if (strcmp(verb, "blank") == 0) {
        scene_blank(scene);
    } else if (strcmp(verb, "healthy") == 0) {
        scene_healthy(scene, node_named(scenario, words[1]), number(words[2] + 1));
    } else if (strcmp(verb, "obey") == 0) {
        for_each_node(scenario, words, scene_obey);
    } else if (strcmp(verb, "vote") == 0) {
        run_vote(scenario, words);
    } else if (strcmp(verb, "lead") == 0) {
        for_each_node(scenario, words, scene_lead);
    } else if (strcmp(verb, "stream") == 0) {
        for_each_node(scenario, words, scene_stream);
    } else if (strcmp(verb, "cut") == 0) {
        for_each_node(scenario, words, scene_cut);
    } else if (strcmp(verb, "lose") == 0) {
        scene_lose(scene, node_named(scenario, words[1]), strcmp(words[2], "refuses") == 0);
    } else if (strcmp(verb, "peers") == 0) {
        scene_peers_see(scene, node_named(scenario, words[1]), strcmp(words[2], "agent") == 0,
                        (enum probe_verdict)word_index(scenario, probe_words, words[3]));
    } else if (strcmp(verb, "request") == 0) {
        make_request(scenario, words);
    } else if (strcmp(verb, "forget") == 0) {
        memset(&scene->view.memory, 0, sizeof(scene->view.memory));
        scene->view.proposer++;
    } else {
        int32_t node = node_named(scenario, verb);

        for (int i = 1; words[i] != NULL; i++) {
            char *equals = strchr(words[i], '=');

            if (equals == NULL)
                bad_line(scenario, words[i]);
            *equals = '\0';
            node_set(scenario, &scene->view.nodes[node], words[i], equals + 1);
        }
    }
}

static void run_line(struct scenario *scenario, const char *line, FILE *out)
{
    char copy[LINE_SIZE];
    char *words[32] = {NULL};
    int count = 0;

    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = copy; *word != '\0' && count < 30;) {
        word += strspn(word, " \n");
        if (*word == '\0')
            break;
        words[count++] = word;
        word += strcspn(word, " \n");
        if (*word != '\0')
            *word++ = '\0';
    }
    if (count > 0)
        run_command(scenario, words, out);
}

static void run_scenario(struct scenario *scenario, FILE *in, FILE *out)
{
    char line[LINE_SIZE];

    scene_init(&scenario->scene);
    while (fgets(line, sizeof(line), in) != NULL) {
        scenario->line++;
        if (line[0] == '>')
            continue;
        fputs(line, out);
        if (line[0] != '#')
            run_line(scenario, line, out);
    }
}

static void golden_replays(void **state)
{
    struct scenario scenario = {.file = *state};
    char *expected = calloc(1, TEXT_SIZE);
    char *text = NULL;
    size_t size = 0;
    FILE *in = fopen(scenario.file, "r");
    FILE *out = open_memstream(&text, &size);

    assert_non_null(expected);
    assert_non_null(in);
    assert_non_null(out);
    assert_in_range(fread(expected, 1, TEXT_SIZE - 1, in), 1, TEXT_SIZE - 2);
    rewind(in);
    run_scenario(&scenario, in, out);
    fclose(in);
    fclose(out);
    if (getenv("OGEL_GOLDEN_WRITE") != NULL) {
        FILE *rewritten = fopen(scenario.file, "w");

        assert_non_null(rewritten);
        assert_int_equal(fwrite(text, 1, size, rewritten), size);
        assert_int_equal(fclose(rewritten), 0);
    } else if (strcmp(text, expected) != 0) {
        fprintf(stderr, "--- %s now answers:\n%s", scenario.file, text);
        fail_msg("%s: not what is expected", scenario.file);
    }
    free(text);
    free(expected);
}

/* Each reason is shown by some scenario; NONE is no reason. */
static void golden__every_reason_is_produced(void **state)
{
    bool all = true;

    (void)state;
    produced[REASON_NONE] = true;
    for (int i = 0; i < REASON_COUNT; i++) {
        if (!produced[i])
            fprintf(stderr, "no scenario produces %s: %s\n", reason_code((enum reason)i),
                    reason_text((enum reason)i));
        all = all && produced[i];
    }
    assert_true(all);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static size_t find_scenarios(void)
{
    const char *srcdir = getenv("srcdir");
    size_t count = 0;
    DIR *dir;

    snprintf(directory, sizeof(directory), "%s/tests/golden/decide", srcdir != NULL ? srcdir : ".");
    dir = opendir(directory);
    if (dir == NULL)
        return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        size_t length = strlen(entry->d_name);

        if (length < 5 || strcmp(entry->d_name + length - 4, ".txt") != 0 || count == FILES_MAX)
            continue;
        snprintf(files[count++], sizeof(files[0]), "%s", entry->d_name);
    }
    closedir(dir);
    qsort(files, count, sizeof(files[0]), compare_names);
    return count;
}

int main(void)
{
    static struct CMUnitTest tests[FILES_MAX + 1];
    static char paths[FILES_MAX][1024];
    size_t count = find_scenarios();

    if (count == 0) {
        fprintf(stderr, "no scenarios in %s\n", directory);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        int length = snprintf(paths[i], sizeof(paths[i]), "%s/%s", directory, files[i]);

        if (length < 0 || (size_t)length >= sizeof(paths[i])) {
            fprintf(stderr, "%s/%s: the path is too long\n", directory, files[i]);
            return 1;
        }
        tests[i].name = files[i];
        tests[i].test_func = golden_replays;
        tests[i].initial_state = paths[i];
    }
    tests[count].name = "golden__every_reason_is_produced";
    tests[count].test_func = golden__every_reason_is_produced;
    return _cmocka_run_group_tests("golden_decide", tests, count + 1, NULL, NULL);
}
