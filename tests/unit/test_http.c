/* The HTTP server. */
#include "tests/unit/http_fixture.h"

#include "base/http_route.h"

/* ---- routes */

static int add_routes(const struct http_route *table, size_t n, struct err *err)
{
    struct http_routes *compiled = NULL;
    int status = http_routes_new(&compiled, table, n, err);

    http_routes_free(compiled);
    return status;
}

static void test_routes__bad_patterns__are_refused(void **state)
{
    static const char *const bad[] = {
        "", "hello", "/a//b", "/a/", "/{a}/{b}/{c}/{d}/{e}", "/1/2/3/4/5/6/7/8/9/10/11/12/13"};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        struct http_route route = {HTTP_GET, bad[i], HTTP_OPEN, hello, NULL};
        struct err err = {0};

        assert_int_equal(add_routes(&route, 1, &err), -1);
        assert_string_not_equal(err.text, "");
    }
}

static void test_routes__same_pattern_and_method_twice__is_refused(void **state)
{
    struct http_route same[] = {{HTTP_GET, "/a/{x}", HTTP_OPEN, hello, NULL},
                                {HTTP_GET | HTTP_POST, "/a/{y}", HTTP_OPEN, hello, NULL}};
    struct http_route other[] = {{HTTP_GET, "/a/{x}", HTTP_OPEN, hello, NULL},
                                 {HTTP_POST, "/a/{y}", HTTP_OPEN, hello, NULL}};
    struct err err = {0};

    (void)state;
    assert_int_equal(add_routes(same, 2, &err), -1);
    assert_int_equal(add_routes(other, 2, &err), 0);
}

static void test_routes__paths_no_pattern_can_have__match_nothing(void **state)
{
    struct http_route table[] = {{HTTP_GET, "/a/{x}", HTTP_OPEN, hello, NULL},
                                 {HTTP_GET, "/", HTTP_OPEN, hello, NULL}};
    static const char *const none[] = {
        "",      "a",    "/a", "/a/",    "/a//",
        "/a/b/", "/b/c", "//", "/a/b/c", "/0/1/2/3/4/5/6/7/8/9/10/11/12/13/14"};
    struct http_routes *compiled;
    struct http_match match;
    char long_path[HTTP_PATH_SIZE + 8];

    (void)state;
    assert_int_equal(http_routes_new(&compiled, table, 2, NULL), 0);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(none); i++) {
        http_routes_match(compiled, HTTP_GET, none[i], &match);
        assert_int_equal(match.route, -1);
        assert_int_equal(match.allowed, 0);
    }
    memset(long_path, 'x', sizeof(long_path));
    memcpy(long_path, "/a/", 3);
    long_path[HTTP_PATH_SIZE] = '\0';
    http_routes_match(compiled, HTTP_GET, long_path, &match);
    assert_int_equal(match.route, -1);
    long_path[HTTP_PATH_SIZE - 1] = '\0';
    http_routes_match(compiled, HTTP_GET, long_path, &match);
    assert_int_equal(match.route, 0);
    http_routes_match(compiled, HTTP_GET, "/", &match);
    assert_int_equal(match.route, 1);
    http_routes_free(compiled);
}

static void test_route__parameters_and_query__reach_the_handler_decoded(void **state)
{
    struct answer answer = get(*state, "/items/a%20b?q=1%2B1&flag&q=2");

    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.content_type, "application/json");
    assert_int_equal(answer.retry_after_s, 7);
    assert_non_null(strstr(answer.body, "\"id\":\"a b\""));
    assert_non_null(strstr(answer.body, "\"q\":\"1+1\""));
    assert_non_null(strstr(answer.body, "\"list\":\"q=1+1;flag=;q=2;\""));
    assert_non_null(strstr(answer.body, "\"peer\":\"127.0.0.1\""));
}

static void test_route__literal__wins_over_a_parameter(void **state)
{
    assert_string_equal(get(*state, "/items/special").body, "special");
}

static void test_route__unknown_path__is_404(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = get(fx, "/nothing/here");

    assert_problem(&answer, 404);
    assert_non_null(strstr(answer.body, "/nothing/here"));
    assert_int_equal(fx->observed.route, -1);
    assert_int_equal(fx->observed.status, 404);
}

static void test_route__wrong_method__is_405_with_allow(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = ask(fx, "DELETE", "/hello", NULL);
    struct raw raw;

    assert_problem(&answer, 405);
    raw_open(fx, &raw);
    raw_say(fx, &raw, "BREW /items/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "\r\n\r\n{"));
    assert_true(raw_has(&raw, "HTTP/1.1 405 "));
    assert_true(raw_has(&raw, "Allow: GET, HEAD, POST, DELETE, OPTIONS\r\n"));
    close(raw.fd);
}

static void test_head__is_answered_wherever_get_is_without_a_body(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    raw_open(fx, &raw);
    raw_say(fx, &raw,
            "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n"
            "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "hello"));
    char *second = strstr(raw.text + 1, "HTTP/1.1 200");

    assert_non_null(second);
    assert_memory_equal(second - 4, "\r\n\r\n", 4);
    *second = '\0';
    assert_true(raw_has(&raw, "Content-Length: 5\r\n"));
    close(raw.fd);
}

static void test_options__is_204_with_allow_unless_the_route_has_it(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    raw_open(fx, &raw);
    raw_say(fx, &raw, "OPTIONS /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "\r\n\r\n"));
    assert_true(raw_has(&raw, "HTTP/1.1 204 "));
    assert_true(raw_has(&raw, "Allow: GET, HEAD, OPTIONS\r\n"));
    close(raw.fd);
    assert_int_equal(ask(fx, "OPTIONS", "/probe", NULL).status, 503);
}

/* ---- tokens */

static void test_token__missing_or_wrong__is_401_with_a_challenge(void **state)
{
    struct fixture *fx = *state;
    static const char *const wrong[] = {"read-token-012345678", READ_TOKEN "x", "", "nonsense"};
    struct answer answer = ask(fx, "GET", "/read", NULL);
    struct raw raw;

    assert_problem(&answer, 401);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++) {
        answer = ask(fx, "GET", "/read", wrong[i]);
        assert_problem(&answer, 401);
    }
    char longest[300];

    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    answer = ask(fx, "GET", "/read", longest);
    assert_problem(&answer, 401);
    raw_open(fx, &raw);
    raw_say(fx, &raw, "GET /read HTTP/1.1\r\nHost: x\r\nAuthorization: Basic cmVhZA==\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "}"));
    assert_true(raw_has(&raw, "WWW-Authenticate: Bearer realm=\"ogel\""));
    close(raw.fd);
}

static void test_token__role__decides_what_is_allowed(void **state)
{
    struct fixture *fx = *state;
    static const struct {
        const char *method, *path, *token;
        int status;
    } cases[] = {
        {"GET", "/read", READ_TOKEN, 200},
        {"GET", "/read", ADMIN_TOKEN, 200},
        {"GET", "/read", PEER_TOKEN, 200},
        {"POST", "/admin", READ_TOKEN, 403},
        {"POST", "/admin", PEER_TOKEN, 403},
        {"POST", "/admin", ADMIN_TOKEN, 200},
        {"POST", "/peer", ADMIN_TOKEN, 403},
        {"POST", "/peer", PEER_TOKEN, 200},
        {"GET", "/open", NULL, 200},
        {"GET", "/open", "wrong-token-0123456", 200},
        {"DELETE", "/items/1", READ_TOKEN, 403},
    };

    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        struct answer answer = ask(fx, cases[i].method, cases[i].path, cases[i].token);

        assert_int_equal(answer.status, cases[i].status);
        if (cases[i].status == 403) {
            assert_problem(&answer, 403);
            assert_null(strstr(answer.body, cases[i].token));
        }
    }
    assert_string_equal(ask(fx, "GET", "/open", ADMIN_TOKEN).body, "2 alice");
    assert_string_equal(ask(fx, "GET", "/open", NULL).body, "0 -");
}

static void test_token__replaced__counts_at_the_next_request(void **state)
{
    struct fixture *fx = *state;
    struct http_token next = {"bob", HTTP_ROLE_READ, "another-token-0123456789"};
    struct http_token weak = {"eve", HTTP_ROLE_READ, "short"};
    struct err err = {0};

    assert_int_equal(http_server_set_tokens(fx->server, &weak, 1, &err), -1);
    assert_null(strstr(err.text, "short"));
    assert_int_equal(ask(fx, "GET", "/read", READ_TOKEN).status, 200);
    assert_int_equal(http_server_set_tokens(fx->server, &next, 1, &err), 0);
    assert_int_equal(ask(fx, "GET", "/read", READ_TOKEN).status, 401);
    assert_string_equal(ask(fx, "GET", "/read", next.secret).body, "1 bob");
}

/* ---- bounds */

static struct answer post(struct fixture *fx, const char *path, const char *body, size_t size)
{
    return call(fx, &(struct http_call_spec){
                        .method = "POST", .url = url(fx, path), .body = body, .body_size = size});
}

static void test_body__within_the_bound__arrives_whole(void **state)
{
    struct fixture *fx = *state;
    size_t size = 1 << 20;
    char *body = test_malloc(size + 1);

    memset(body, 'b', size + 1);
    struct answer answer = post(fx, "/echo", body, size);

    assert_int_equal(answer.status, 201);
    assert_int_equal(answer.body_size, size);
    answer = post(fx, "/echo", body, size + 1);
    assert_problem(&answer, 413);
    assert_int_equal(post(fx, "/echo", "", 0).body_size, 0);
    test_free(body);
}

/* The sender must get to read the 413: not a reset in the middle of its writing. */
static void test_body__of_10_mib__is_413_and_not_a_reset(void **state)
{
    struct fixture *fx = *state;
    size_t size = 10 << 20;
    char *body = test_malloc(size);
    struct answer answer;

    memset(body, ' ', size);
    for (int i = 0; i < 3; i++) {
        answer = post(fx, "/echo", body, size);
        assert_problem(&answer, 413);
    }
    /* A refused token is no shortcut to it, nor the other way round. */
    answer = call(fx,
                  &(struct http_call_spec){
                      .method = "POST", .url = url(fx, "/admin"), .body = body, .body_size = size});
    assert_problem(&answer, 401);
    test_free(body);
}

static void test_body__chunked_beyond_the_bound__is_413(void **state)
{
    struct fixture *fx = *state;
    static char chunk[8 + 65536 + 2];
    struct raw raw;

    start(fx, &(struct http_server_config){.body_max_bytes = 100 * 1000});
    memset(chunk, 'c', sizeof(chunk));
    memcpy(chunk, "00FFFE\r\n", 8);
    memcpy(chunk + 8 + 65534, "\r\n", 2);
    raw_open(fx, &raw);
    raw_say(fx, &raw, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw_send(fx, &raw, chunk, 8 + 65534 + 2);
    raw_send(fx, &raw, chunk, 8 + 65534 + 2);
    raw_say(fx, &raw, "0\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "at most 100000 bytes"));
    assert_true(raw_has(&raw, "HTTP/1.1 413 "));
    close(raw.fd);
}

static void test_body__announced_with_expect__is_refused_before_it_is_sent(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    raw_open(fx, &raw);
    raw_say(fx, &raw,
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n"
            "Expect: 100-continue\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "}"));
    assert_true(raw_has(&raw, "HTTP/1.1 413 "));
    assert_false(raw_has(&raw, "100 Continue"));
    close(raw.fd);
    raw_open(fx, &raw);
    raw_say(fx, &raw,
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
            "Expect: 100-continue\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "100 Continue"));
    raw_say(fx, &raw, "abc");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "\r\n\r\nabc"));
    close(raw.fd);
}

static void test_header__beyond_the_bound__is_431_or_414(void **state)
{
    struct fixture *fx = *state;
    char big[6000], line[6100];
    struct answer answer;

    memset(big, 'h', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    snprintf(line, sizeof(line), "X-Note: %s", big);
    const char *const one[] = {line, NULL};
    const char *const two[] = {line, line, NULL};
    struct http_call_spec spec = {.url = url(fx, "/items/1"), .headers = one};

    answer = call(fx, &spec);
    assert_int_equal(answer.status, 200);
    spec.headers = two;
    answer = call(fx, &spec);
    assert_problem(&answer, 431);

    snprintf(line, sizeof(line), "/items/%.600s", big);
    answer = get(fx, line);
    assert_problem(&answer, 414);
    snprintf(line, sizeof(line), "/items/1?q=%.5000s", big);
    answer = get(fx, line);
    assert_problem(&answer, 414);
    snprintf(line, sizeof(line), "/items/1?q=%.3000s", big);
    assert_int_equal(get(fx, line).status, 200);
}

/* Far beyond the bound libmicrohttpd answers itself; the client still reads a status and the server
 * lives. */
static void test_header__endless__ends_the_connection(void **state)
{
    struct fixture *fx = *state;
    static char junk[4096];
    struct raw raw;

    memset(junk, 'j', sizeof(junk));
    raw_open(fx, &raw);
    raw_say(fx, &raw, "GET /hello HTTP/1.1\r\nX: ");
    for (int i = 0; i < 64 && !raw.closed; i++) {
        raw_send(fx, &raw, junk, sizeof(junk));
        raw_read(&raw);
    }
    RAW_UNTIL(fx, &raw, raw.closed);
    close(raw.fd);
    assert_int_equal(get(fx, "/hello").status, 200);
}

static void test_request__malformed__is_400_or_dropped(void **state)
{
    static const char *const bad[] = {
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost x\r\n\r\n",
        "GET /hello HTTP/1.1\r\n\r\n", /* no Host */
        "GET /hello HTTP/9.9\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n",
    };
    struct fixture *fx = *state;
    struct answer answer;

    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        struct raw raw;

        raw_open(fx, &raw);
        raw_say(fx, &raw, bad[i]);
        shutdown(raw.fd, SHUT_WR);
        RAW_UNTIL(fx, &raw, raw.closed);
        assert_false(raw_has(&raw, "HTTP/1.1 2"));
        close(raw.fd);
    }
    answer = get(fx, "/items/a%00b");
    assert_problem(&answer, 400);
    assert_int_equal(get(fx, "/hello").status, 200);
}

/* ---- slow, idle and many clients */

static void test_slow__header_in_drips__is_dropped(void **state)
{
    struct fixture *fx = *state;
    struct http_server_stats stats;
    struct raw raw;

    start(fx, &(struct http_server_config){.request_timeout_ms = 200});
    raw_open(fx, &raw);
    int64_t begin_ms = clock_mono_ms();

    raw_say(fx, &raw, "GET /hello HTTP/1.1\r\nHost: x\r\n");
    RUN_UNTIL(fx, (raw_say(fx, &raw, "X: y\r\n"), raw_read(&raw), raw.closed));
    assert_true(clock_mono_ms() - begin_ms >= 150);
    http_server_stats(fx->server, &stats);
    assert_int_equal(stats.slow_dropped_total, 1);
    close(raw.fd);
}

static void test_slow__body_in_drips__is_dropped(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    start(fx, &(struct http_server_config){.request_timeout_ms = 200});
    raw_open(fx, &raw);
    raw_say(fx, &raw, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    RUN_UNTIL(fx, (raw_say(fx, &raw, "x"), raw_read(&raw), raw.closed));
    assert_false(raw_has(&raw, "HTTP/1.1 2"));
    close(raw.fd);
}

static void test_slow__silent_connection__is_dropped(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    start(fx, &(struct http_server_config){.request_timeout_ms = 100, .idle_timeout_ms = 60000});
    raw_open(fx, &raw);
    RAW_UNTIL(fx, &raw, raw.closed);
    close(raw.fd);
}

static void test_idle__kept_connection__is_closed_after_its_time(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    start(fx, &(struct http_server_config){.idle_timeout_ms = 200});
    raw_open(fx, &raw);
    int64_t begin_ms = clock_mono_ms();

    raw_say(fx, &raw, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "hello"));
    RAW_UNTIL(fx, &raw, raw.closed);
    assert_true(clock_mono_ms() - begin_ms >= 150);
    close(raw.fd);
}

static void test_many__idle_connections__make_room_for_new_ones(void **state)
{
    struct fixture *fx = *state;
    struct http_server_stats stats;
    struct raw idle[6];

    start(fx, &(struct http_server_config){.connections_max = 4});
    for (size_t i = 0; i < OGEL_ARRAY_LEN(idle); i++) {
        raw_open(fx, &idle[i]);
        raw_say(fx, &idle[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        RAW_UNTIL(fx, &idle[i], raw_has(&idle[i], "hello"));
        /* Times are kept in whole milliseconds. */
        int64_t later_ms = clock_mono_ms() + 2;

        RUN_UNTIL(fx, clock_mono_ms() >= later_ms);
    }
    RAW_UNTIL(fx, &idle[0], idle[0].closed);
    RAW_UNTIL(fx, &idle[1], idle[1].closed);
    raw_read(&idle[2]);
    assert_false(idle[2].closed);
    http_server_stats(fx->server, &stats);
    assert_int_equal(stats.connections, 4);
    assert_int_equal(stats.overflow_dropped_total, 2);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(idle); i++)
        close(idle[i].fd);
}

/* ---- answers later */

static void test_wait__answered_from_the_loop(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};
    struct http_server_stats stats;

    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/wait")}, keep, &answer);
    RUN_UNTIL(fx, fx->suspended != NULL);
    settle(fx, 5);
    http_server_stats(fx->server, &stats);
    assert_int_equal(stats.suspended, 1);
    http_respond(fx->suspended, 200, "text/plain", "now", 3);
    fx->suspended = NULL;
    RUN_UNTIL(fx, answer.done);
    assert_string_equal(answer.body, "now");
    assert_int_equal(fx->wakes, 0);
    assert_true(fx->observed.waited);
    http_server_stats(fx->server, &stats);
    assert_int_equal(stats.suspended, 0);
    assert_string_equal(get(fx, "/wait-not").body, "at once");
}

static void test_wait__deadline__calls_and_otherwise_answers_503(void **state)
{
    struct fixture *fx = *state;
    struct answer answer;

    fx->suspend_ms = 30;
    fx->answer_at_deadline = true;
    assert_string_equal(get(fx, "/wait").body, "late");
    assert_int_equal(fx->wake, HTTP_WAKE_DEADLINE);
    fx->answer_at_deadline = false;
    answer = get(fx, "/wait");
    assert_problem(&answer, 503);
    assert_int_equal(fx->wakes, 2);
}

static void test_wait__client_goes__calls_back(void **state)
{
    struct fixture *fx = *state;
    struct linger reset = {.l_onoff = 1};
    struct raw raw;

    for (int i = 0; i < 2; i++) {
        raw_open(fx, &raw);
        /* A pipelined request is no sign of going away. */
        raw_say(fx, &raw, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\n");
        RUN_UNTIL(fx, fx->suspended != NULL);
        settle(fx, 5);
        assert_non_null(fx->suspended);
        if (i == 1)
            setsockopt(raw.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(raw.fd);
        RUN_UNTIL(fx, fx->suspended == NULL);
        assert_int_equal(fx->wakes, i + 1);
        assert_int_equal(fx->wake, HTTP_WAKE_CLOSED);
        RUN_UNTIL(fx, fx->observed.count == i + 1);
        assert_int_equal(fx->observed.status, 499);
    }
}

static void test_wait__server_stops__calls_back(void **state)
{
    struct fixture *fx = *state;
    struct answer waiting = {0}, streaming = {0};

    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/wait")}, keep, &waiting);
    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/stream")}, keep, &streaming);
    RUN_UNTIL(fx, fx->suspended != NULL && fx->stream != NULL);
    settle(fx, 10);
    http_server_stop(fx->server);
    fx->server = NULL;
    assert_int_equal(fx->wakes, 1);
    assert_int_equal(fx->wake, HTTP_WAKE_CLOSED);
    assert_int_equal(fx->streams_closed, 1);
    RUN_UNTIL(fx, waiting.done && streaming.done);
    assert_int_equal(waiting.outcome, HTTP_CALL_RESET);
    assert_int_equal(streaming.outcome, HTTP_CALL_RESET);
}

static void test_reply__prepared__is_sent_many_times_and_outlives_its_owner(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};

    for (int i = 0; i < 3; i++)
        assert_string_equal(get(fx, "/prepared").body, "{\"a\":1}");
    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/wait-prepared")}, keep,
              &answer);
    RUN_UNTIL(fx, fx->suspended != NULL);
    settle(fx, 5);
    http_respond_reply(fx->suspended, fx->reply);
    fx->suspended = NULL;
    http_reply_free(fx->reply);
    fx->reply = NULL;
    RUN_UNTIL(fx, answer.done);
    assert_string_equal(answer.body, "{\"a\":1}");
}

static void test_handler__without_an_answer__is_500(void **state)
{
    struct answer answer = get(*state, "/forgot");

    assert_problem(&answer, 500);
}

static void test_problem__members_of_its_own__do_not_replace_the_standard_ones(void **state)
{
    struct answer answer = get(*state, "/problem");

    assert_problem(&answer, 503);
    assert_non_null(strstr(answer.body, "\"reason\":\"L0\""));
    assert_non_null(strstr(answer.body, "\"title\":\"Service Unavailable\""));
}

static void test_header__with_a_line_break__is_not_sent(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};

    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/wait")}, keep, &answer);
    RUN_UNTIL(fx, fx->suspended != NULL);
    http_response_header(fx->suspended, "Retry-After", "1\r\nX-Injected: 1");
    http_respond(fx->suspended, 200, NULL, NULL, 0);
    fx->suspended = NULL;
    RUN_UNTIL(fx, answer.done);
    assert_int_equal(answer.retry_after_s, -1);
}

/* ---- streams */

static bool collect(void *arg, const char *data, size_t size)
{
    char *seen = arg;

    strncat(seen, data, size);
    return strstr(seen, "abort") == NULL;
}

static void test_stream__pieces_arrive_as_they_are_sent(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};

    http_call(fx->client,
              &(struct http_call_spec){
                  .url = url(fx, "/stream"), .on_data = collect, .on_data_arg = fx->seen},
              keep, &answer);
    RUN_UNTIL(fx, strcmp(fx->seen, "data: 1\n\n") == 0);
    assert_int_equal(http_stream_send(fx->stream, "data: 2\n\n", 9), 0);
    RUN_UNTIL(fx, strcmp(fx->seen, "data: 1\n\ndata: 2\n\n") == 0);
    assert_int_equal(http_stream_send(fx->stream, "end", 3), 0);
    http_stream_end(fx->stream);
    RUN_UNTIL(fx, answer.done);
    assert_int_equal(answer.outcome, HTTP_CALL_OK);
    assert_string_equal(fx->seen, "data: 1\n\ndata: 2\n\nend");
    assert_string_equal(answer.content_type, "text/event-stream");
    RUN_UNTIL(fx, fx->streams_closed == 1);
    assert_true(fx->observed.waited);
}

static void test_stream__reader_goes__is_noticed_while_nothing_is_sent(void **state)
{
    struct fixture *fx = *state;
    struct raw raw;

    raw_open(fx, &raw);
    raw_say(fx, &raw, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    RAW_UNTIL(fx, &raw, raw_has(&raw, "data: 1"));
    settle(fx, 5);
    close(raw.fd);
    RUN_UNTIL(fx, fx->streams_closed == 1);
}

static void test_stream__aborted_by_on_data__closes(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};

    http_call(fx->client,
              &(struct http_call_spec){
                  .url = url(fx, "/stream"), .on_data = collect, .on_data_arg = fx->seen},
              keep, &answer);
    RUN_UNTIL(fx, fx->stream != NULL);
    assert_int_equal(http_stream_send(fx->stream, "abort", 5), 0);
    RUN_UNTIL(fx, answer.done && fx->streams_closed == 1);
    assert_int_equal(answer.outcome, HTTP_CALL_OTHER);
}

static void test_stream__slow_reader__is_closed_at_the_bound(void **state)
{
    struct fixture *fx = *state;
    static char block[32768];
    struct http_server_stats stats;
    struct raw raw;
    int sent = 0;

    start(fx, &(struct http_server_config){.stream_backlog_max_bytes = 100 * 1000});
    raw_open(fx, &raw);
    raw_say(fx, &raw, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    RUN_UNTIL(fx, fx->stream != NULL);
    /* The kernel takes some megabytes before anything is left waiting here. */
    while (fx->stream != NULL && sent < 4096) {
        if (http_stream_send(fx->stream, block, sizeof(block)) == 0)
            sent++;
        assert_int_equal(loop_run_once(fx->loop, 0, NULL), 0);
    }
    RUN_UNTIL(fx, fx->streams_closed == 1);
    http_server_stats(fx->server, &stats);
    assert_int_equal(stats.slow_dropped_total, 1);
    assert_int_equal(stats.streams, 0);
    close(raw.fd);
}

/* ---- starting */

static void test_start__port_taken__says_what_to_do(void **state)
{
    struct fixture *fx = *state;
    struct http_server *second = NULL;
    struct err err = {0};
    struct http_server_config config = {.port = http_server_port(fx->server)};

    assert_int_equal(http_server_start(&second, fx->loop, &config, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, "another process"));
    assert_int_equal(get(fx, "/hello").status, 200);
}

static void test_start__bad_address__is_refused(void **state)
{
    static const char *const bad[] = {"localhost", "300.1.1.1", "", "192.0.2.1"};
    struct fixture *fx = *state;

    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        struct http_server *second = NULL;
        struct err err = {0};
        struct http_server_config config = {.address = bad[i]};

        assert_int_equal(http_server_start(&second, fx->loop, &config, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void test_start__ipv6__is_served(void **state)
{
    struct fixture *fx = *state;
    int probe_fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_ipv6 = probe_fd >= 0 &&
                    bind(probe_fd, (struct sockaddr *)&loopback, sizeof(loopback)) == 0;

    close(probe_fd);
    if (!has_ipv6)
        skip();
    start(fx, &(struct http_server_config){.address = "::1"});
    snprintf(fx->base, sizeof(fx->base), "http://[::1]:%d", http_server_port(fx->server));
    struct answer answer = get(fx, "/items/1");

    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\"peer\":\"::1\""));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes__bad_patterns__are_refused),
        cmocka_unit_test(test_routes__same_pattern_and_method_twice__is_refused),
        cmocka_unit_test(test_routes__paths_no_pattern_can_have__match_nothing),
        TEST(test_route__parameters_and_query__reach_the_handler_decoded),
        TEST(test_route__literal__wins_over_a_parameter),
        TEST(test_route__unknown_path__is_404),
        TEST(test_route__wrong_method__is_405_with_allow),
        TEST(test_head__is_answered_wherever_get_is_without_a_body),
        TEST(test_options__is_204_with_allow_unless_the_route_has_it),
        TEST(test_token__missing_or_wrong__is_401_with_a_challenge),
        TEST(test_token__role__decides_what_is_allowed),
        TEST(test_token__replaced__counts_at_the_next_request),
        TEST(test_body__within_the_bound__arrives_whole),
        TEST(test_body__of_10_mib__is_413_and_not_a_reset),
        TEST(test_body__chunked_beyond_the_bound__is_413),
        TEST(test_body__announced_with_expect__is_refused_before_it_is_sent),
        TEST(test_header__beyond_the_bound__is_431_or_414),
        TEST(test_header__endless__ends_the_connection),
        TEST(test_request__malformed__is_400_or_dropped),
        TEST(test_slow__header_in_drips__is_dropped),
        TEST(test_slow__body_in_drips__is_dropped),
        TEST(test_slow__silent_connection__is_dropped),
        TEST(test_idle__kept_connection__is_closed_after_its_time),
        TEST(test_many__idle_connections__make_room_for_new_ones),
        TEST(test_wait__answered_from_the_loop),
        TEST(test_wait__deadline__calls_and_otherwise_answers_503),
        TEST(test_wait__client_goes__calls_back),
        TEST(test_wait__server_stops__calls_back),
        TEST(test_reply__prepared__is_sent_many_times_and_outlives_its_owner),
        TEST(test_handler__without_an_answer__is_500),
        TEST(test_problem__members_of_its_own__do_not_replace_the_standard_ones),
        TEST(test_header__with_a_line_break__is_not_sent),
        TEST(test_stream__pieces_arrive_as_they_are_sent),
        TEST(test_stream__reader_goes__is_noticed_while_nothing_is_sent),
        TEST(test_stream__aborted_by_on_data__closes),
        TEST(test_stream__slow_reader__is_closed_at_the_bound),
        TEST(test_start__port_taken__says_what_to_do),
        TEST(test_start__bad_address__is_refused),
        TEST(test_start__ipv6__is_served),
    };

    http_client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
