#include "orchestrator/connect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_server.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/units.h"
#include "orchestrator/shell.h"
#include "orchestrator/topology.h"

enum {
    WAIT_MAX_MS = 60000,
    NAME_SIZE = 64, /* of a database or user: NAMEDATALEN */
    URI_SIZE = 1024,
    BODY_DEPTH = 4,
    KEPT_MAX = 8, /* pairs of database and user whose answers are kept */
};

/* What was asked for. */
struct wish {
    struct cluster *cluster;
    bool write;
    bool uri;               /* plain text instead of JSON */
    bool allow_leader;      /* reads: the leader as last resort */
    uint64_t max_lag_bytes; /* UINT64_MAX: any */
    uint32_t max_lag_ms;    /* UINT32_MAX: any */
    uint64_t min_lsn;
    int64_t wait_ms;
    char database[NAME_SIZE];
    char user[NAME_SIZE];
};

struct waiting {
    struct wish wish;
    struct http_request *request;
    struct topology_watch *watch;
};

/* --- reading the wish ------------------------------------------------------------------------- */

struct parser {
    struct orchestrator *orchestrator;
    struct wish *wish;
    struct err *err;
    bool failed;
    bool cluster_named;
};

static int bad(struct parser *p, const char *name, const char *allowed)
{
    p->failed = true;
    return err_set(p->err, ERR_INVALID, "parameter \"%s\": expected %s", name, allowed);
}

static int take_number(struct parser *p, const char *name, const char *value, int64_t max,
                       int64_t *out)
{
    struct err ignored = {0};
    char allowed[64];

    snprintf(allowed, sizeof allowed, "a whole number of milliseconds, %lld at most",
             (long long)max);
    return units_parse_int(value, 0, max, out, &ignored) ? bad(p, name, allowed) : 0;
}

static int take_lag(struct parser *p, const char *value)
{
    struct err ignored = {0};
    int64_t bytes;

    if (units_parse_size(value, &bytes, &ignored))
        return bad(p, "max_lag", "a size such as 16MB, or bytes");
    p->wish->max_lag_bytes = (uint64_t)bytes;
    return 0;
}

static int take_name(struct parser *p, const char *name, const char *value, char out[NAME_SIZE])
{
    if (*value == '\0' || strlen(value) >= NAME_SIZE)
        return bad(p, name, "a name of 1 to 63 bytes");
    snprintf(out, NAME_SIZE, "%s", value);
    return 0;
}

static int take_param(struct parser *p, const char *name, const char *value)
{
    struct wish *wish = p->wish;
    struct err ignored = {0};
    int64_t number = 0;

    if (strcmp(name, "intent") == 0) {
        if (strcmp(value, "write") != 0 && strcmp(value, "read") != 0)
            return bad(p, name, "write or read");
        wish->write = value[0] == 'w';
    } else if (strcmp(name, "cluster") == 0) {
        p->cluster_named = true;
        wish->cluster = orchestrator_cluster(p->orchestrator, value);
    } else if (strcmp(name, "format") == 0) {
        if (strcmp(value, "json") != 0 && strcmp(value, "uri") != 0)
            return bad(p, name, "json or uri");
        wish->uri = value[0] == 'u';
    } else if (strcmp(name, "allow_leader") == 0) {
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return bad(p, name, "true or false");
        wish->allow_leader = value[0] == 't';
    } else if (strcmp(name, "max_lag") == 0) {
        return take_lag(p, value);
    } else if (strcmp(name, "max_lag_ms") == 0) {
        if (take_number(p, name, value, UINT32_MAX - 1, &number))
            return -1;
        wish->max_lag_ms = (uint32_t)number;
    } else if (strcmp(name, "min_lsn") == 0) {
        if (units_parse_lsn(value, &wish->min_lsn, &ignored))
            return bad(p, name, "an LSN such as 16/B374D848");
    } else if (strcmp(name, "wait_ms") == 0) {
        return take_number(p, name, value, WAIT_MAX_MS, &wish->wait_ms);
    } else if (strcmp(name, "database") == 0) {
        return take_name(p, name, value, wish->database);
    } else if (strcmp(name, "user") == 0) {
        return take_name(p, name, value, wish->user);
    } else {
        p->failed = true;
        return err_set(p->err, ERR_INVALID,
                       "unknown parameter \"%s\" (allowed: intent, cluster, format, max_lag, "
                       "max_lag_ms, min_lsn, "
                       "wait_ms, allow_leader, database, user)",
                       name);
    }
    return 0;
}

static bool take_query(void *arg, const char *name, const char *value)
{
    return take_param(arg, name, value) == 0;
}

static int take_body(struct parser *p, const struct http_request *request)
{
    json_t *json, *value;
    const char *name;
    char number[32];

    if (request->body_size == 0)
        return 0;
    if (json_parse_bounded(request->body, request->body_size, BODY_DEPTH, &json, p->err))
        return -1;
    if (!json_is_object(json)) {
        json_decref(json);
        return err_set(p->err, ERR_INVALID,
                       "the body must be a JSON object such as {\"intent\": \"read\"}");
    }
    json_object_foreach(json, name, value)
    {
        const char *text = json_string_value(value);

        if (json_is_integer(value)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
            text = number;
        } else if (json_is_boolean(value)) {
            text = json_is_true(value) ? "true" : "false";
        }
        if (text ? take_param(p, name, text) : bad(p, name, "a string, a number or a boolean"))
            break;
    }
    json_decref(json);
    return p->failed ? -1 : 0;
}

static int read_wish(struct orchestrator *orchestrator, struct http_request *request,
                     struct wish *wish, bool *missing, struct err *err)
{
    struct parser parser = {.orchestrator = orchestrator, .wish = wish, .err = err};

    memset(wish, 0, sizeof *wish);
    wish->write = true;
    wish->allow_leader = true;
    wish->max_lag_bytes = UINT64_MAX;
    wish->max_lag_ms = UINT32_MAX;
    *missing = false;
    http_request_query_each(request, take_query, &parser);
    if (parser.failed || take_body(&parser, request))
        return -1;
    if (!parser.cluster_named)
        wish->cluster = orchestrator_cluster(orchestrator, NULL);
    if (!wish->cluster) {
        *missing = true;
        return err_set(err, ERR_NOT_FOUND,
                       parser.cluster_named
                           ? "no such cluster: GET /v1/clusters lists them"
                           : "several clusters are supervised: name one with cluster=");
    }
    return 0;
}

/* --- finding a node --------------------------------------------------------------------------- */

static bool fits(const struct wish *wish, const struct topology_node *node)
{
    return node->reads && node->address.port != 0 && node->replay_lsn >= wish->min_lsn &&
           (wish->max_lag_bytes == UINT64_MAX || node->lag_bytes <= wish->max_lag_bytes) &&
           (wish->max_lag_ms == UINT32_MAX || node->lag_ms <= wish->max_lag_ms);
}

/* The slot to connect to, or NODE_NONE with why. Replicas take turns; the leader serves reads only
 * when none fits. */
static int32_t find_node(const struct wish *wish, const char **why)
{
    struct cluster *cluster = wish->cluster;
    const struct topology *topology = cluster->topology;

    if (wish->write) {
        *why = topology->not_writable == REASON_NONE ? "no agent has answered yet"
                                                     : reason_text(topology->not_writable);
        return topology->writable ? topology->leader : NODE_NONE;
    }
    for (uint32_t i = 0; i < NODE_COUNT; i++) {
        int32_t slot = (int32_t)(cluster->next_read++ % NODE_COUNT);

        if (slot != topology->leader && fits(wish, &topology->nodes[slot]))
            return slot;
    }
    if (wish->allow_leader && topology->leader >= 0 &&
        fits(wish, &topology->nodes[topology->leader]))
        return topology->leader;
    *why = "no node is fit to read from within what was asked";
    return NODE_NONE;
}

/* --- answering -------------------------------------------------------------------------------- */

static size_t append_encoded(char *out, size_t used, size_t size, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (; *text && used + 4 < size; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-._~", c)) {
            out[used++] = (char)c;
        } else {
            out[used++] = '%';
            out[used++] = hex[c >> 4];
            out[used++] = hex[c & 15];
        }
    }
    out[used] = '\0';
    return used;
}

static size_t append_host(char *out, size_t used, size_t size, const struct address *address)
{
    bool v6 = strchr(address->host, ':') != NULL;
    int n = snprintf(out + used, size - used, "%s%s%s:%u", v6 ? "[" : "", address->host,
                     v6 ? "]" : "", address->port);

    return n < 0 || (size_t)n >= size - used ? used : used + (size_t)n;
}

/* only: one slot, or NODE_NONE for all nodes that are known, the leader first. */
static void write_uri(const struct wish *wish, int32_t only, const char *attrs, char out[URI_SIZE])
{
    const struct topology *topology = wish->cluster->topology;
    size_t used = (size_t)snprintf(out, URI_SIZE, "postgresql://");
    bool first = true;

    if (wish->user[0]) {
        used = append_encoded(out, used, URI_SIZE, wish->user);
        used += (size_t)snprintf(out + used, URI_SIZE - used, "@");
    }
    for (int32_t i = -1; i < NODE_COUNT; i++) {
        int32_t slot = i < 0 ? (only >= 0 ? only : topology->leader) : i;

        if (slot < 0 || (i >= 0 && (only >= 0 || slot == topology->leader)) ||
            topology->nodes[slot].address.port == 0)
            continue;
        if (!first)
            used += (size_t)snprintf(out + used, URI_SIZE - used, ",");
        used = append_host(out, used, URI_SIZE, &topology->nodes[slot].address);
        first = false;
    }
    used += (size_t)snprintf(out + used, URI_SIZE - used, "/");
    used = append_encoded(out, used, URI_SIZE, wish->database);
    if (attrs)
        snprintf(out + used, URI_SIZE - used, "?target_session_attrs=%s", attrs);
}

static json_t *lag(uint64_t value, uint64_t none)
{
    return value == none ? json_null() : json_integer((json_int_t)value);
}

/* The body; the caller frees it. */
static char *answer_text(const struct wish *wish, int32_t slot)
{
    const struct topology *topology = wish->cluster->topology;
    const struct topology_node *node = &topology->nodes[slot];
    char uri[URI_SIZE], multi[URI_SIZE];
    json_t *json;
    char *text;

    write_uri(wish, slot, NULL, uri);
    if (wish->uri)
        return xstrdup(uri);
    write_uri(wish, NODE_NONE, wish->write ? "read-write" : "prefer-standby", multi);
    json = json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:s,s:I,s:o,s:o,s:o}", "cluster",
                     wish->cluster->name, "node", wish->cluster->nodes[slot].id, "role",
                     slot == topology->leader ? "leader" : "replica", "host", node->address.host,
                     "port", node->address.port, "uri", uri, "multi_host_uri", multi, "generation",
                     (json_int_t)topology->generation, "lag_bytes",
                     lag(node->lag_bytes, UINT64_MAX), "lag_ms", lag(node->lag_ms, UINT32_MAX),
                     "lsn", json_lsn(node->replay_lsn));
    text = json_dump_line(json);
    json_decref(json);
    return text;
}

/* Most ask the same again and again: such answers are made once for each state of the cluster, and
 * then only sent. */
struct replies {
    char database[NAME_SIZE];
    char user[NAME_SIZE];
    struct http_reply *reply[2][2][NODE_COUNT]; /* write?, uri?, slot; NULL: not made yet */
};

struct connect_replies {
    uint64_t revision; /* of the topology that they were made from */
    uint32_t next;     /* the one that makes room */
    struct replies kept[KEPT_MAX];
};

static void replies_clear(struct replies *replies)
{
    for (int i = 0; i < 2 * 2 * NODE_COUNT; i++)
        http_reply_free((&replies->reply[0][0][0])[i]);
    memset(replies, 0, sizeof *replies);
}

void connect_forget(struct cluster *cluster)
{
    for (int i = 0; cluster->connect_replies && i < KEPT_MAX; i++)
        replies_clear(&cluster->connect_replies->kept[i]);
    free(cluster->connect_replies);
    cluster->connect_replies = NULL;
}

/* Those for this database and user. */
static struct replies *replies_find(const struct wish *wish)
{
    struct cluster *cluster = wish->cluster;
    struct connect_replies *all = cluster->connect_replies;
    struct replies *replies;

    if (all && all->revision != cluster->topology->revision) {
        connect_forget(cluster);
        all = NULL;
    }
    if (!all) {
        all = cluster->connect_replies = xcalloc(1, sizeof *all);
        all->revision = cluster->topology->revision;
    }
    for (int i = 0; i < KEPT_MAX; i++) {
        replies = &all->kept[i];
        if (strcmp(replies->database, wish->database) == 0 &&
            strcmp(replies->user, wish->user) == 0)
            return replies;
    }
    replies = &all->kept[all->next++ % KEPT_MAX];
    replies_clear(replies);
    memcpy(replies->database, wish->database, sizeof replies->database);
    memcpy(replies->user, wish->user, sizeof replies->user);
    return replies;
}

static void answer(struct http_request *request, const struct wish *wish, int32_t slot)
{
    struct http_reply **reply = &replies_find(wish)->reply[wish->write][wish->uri][slot];

    if (!*reply) {
        char *text = answer_text(wish, slot);

        *reply = http_reply_new(200, wish->uri ? "text/plain; charset=utf-8" : "application/json",
                                text, strlen(text));
        free(text);
    }
    http_respond_reply(request, *reply);
}

static void refuse(struct http_request *request, const struct wish *wish, const char *why)
{
    const struct topology *topology = wish->cluster->topology;

    http_response_header(request, "Retry-After", "1");
    http_respond_problem_with(
        request, 503, wish->write ? "No writable leader" : "No suitable replica",
        json_pack("{s:s,s:s,s:I,s:b}", "cluster", wish->cluster->name, "reason",
                  wish->write ? reason_code(topology->not_writable) : "-", "generation",
                  (json_int_t)topology->generation, "maintenance", topology->maintenance),
        "cluster %s: %s", wish->cluster->name, why);
}

static void waiting_free(struct waiting *waiting)
{
    topology_watch_free(waiting->watch);
    free(waiting);
}

static void look_again(struct cluster *cluster, void *arg)
{
    struct waiting *waiting = arg;
    const char *why = "";
    int32_t slot = find_node(&waiting->wish, &why);

    (void)cluster;
    if (slot < 0)
        return;
    answer(waiting->request, &waiting->wish, slot);
    waiting_free(waiting);
}

static void waited(struct http_request *request, enum http_wake wake, void *arg)
{
    struct waiting *waiting = arg;
    const char *why = "";

    if (wake == HTTP_WAKE_DEADLINE) {
        int32_t slot = find_node(&waiting->wish, &why);

        if (slot >= 0)
            answer(request, &waiting->wish, slot);
        else
            refuse(request, &waiting->wish, why);
    }
    waiting_free(waiting);
}

void connect_handle(struct http_request *request, void *arg)
{
    struct orchestrator *orchestrator = arg;
    struct waiting *waiting;
    struct wish wish;
    struct err err = {0};
    const char *why = "";
    bool missing;
    int32_t slot;

    if (read_wish(orchestrator, request, &wish, &missing, &err)) {
        http_respond_problem(request, missing ? 404 : 400, NULL, "%s", err.text);
        return;
    }
    slot = find_node(&wish, &why);
    if (slot >= 0) {
        answer(request, &wish, slot);
    } else if (wish.wait_ms == 0) {
        refuse(request, &wish, why);
    } else {
        waiting = xcalloc(1, sizeof *waiting);
        waiting->wish = wish;
        waiting->request = request;
        waiting->watch = topology_watch_new(wish.cluster, look_again, waiting);
        http_suspend(request, wish.wait_ms, waited, waiting);
    }
}
