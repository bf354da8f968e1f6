/* The HTTP client. */
#include "tests/unit/http_fixture.h"

#include <pthread.h>

#include "base/resolve.h"

/* ---- the client's side */

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* Accepts in the kernel only: what a stopped process looks like. */
static int silent_listener(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void test_call__refused_and_silent__are_told_apart(void **state)
{
    struct fixture *fx = *state;
    int port;
    struct answer answer;

    snprintf(fx->base, sizeof(fx->base), "http://127.0.0.1:%d", free_port());
    answer = get(fx, "/x?secret=1");
    assert_int_equal(answer.outcome, HTTP_CALL_REFUSED);
    assert_int_equal(answer.status, 0);
    assert_non_null(strstr(answer.error, "/x: refused"));
    assert_null(strstr(answer.error, "secret"));

    int fd = silent_listener(&port);

    snprintf(fx->base, sizeof(fx->base), "http://127.0.0.1:%d", port);
    int64_t begin_ms = clock_mono_ms();

    answer = call(fx, &(struct http_call_spec){.url = url(fx, "/x"), .timeout_ms = 100});
    assert_int_equal(answer.outcome, HTTP_CALL_TIMEOUT);
    assert_true(clock_mono_ms() - begin_ms >= 95);
    close(fd);
}

static void test_call__connection_cut_before_the_answer__is_reset(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};
    int port, fd = silent_listener(&port);

    snprintf(fx->base, sizeof(fx->base), "http://127.0.0.1:%d", port);
    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/x")}, keep, &answer);
    settle(fx, 50);
    int accepted = accept(fd, NULL, NULL);

    assert_true(accepted >= 0);
    settle(fx, 20);
    close(accepted);
    RUN_UNTIL(fx, answer.done);
    assert_int_equal(answer.outcome, HTTP_CALL_RESET);
    close(fd);
}

static void test_call__bad_urls__fail_through_the_callback(void **state)
{
    struct fixture *fx = *state;
    static const struct {
        const char *url;
        enum http_call_status outcome;
    } bad[] = {{"", HTTP_CALL_OTHER},
               {"http://", HTTP_CALL_OTHER},
               {"ftp://127.0.0.1/x", HTTP_CALL_OTHER},
               {"http://127.0.0.1:99999/", HTTP_CALL_OTHER},
               {"http://node-a:1/", HTTP_CALL_UNRESOLVED}};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        struct answer answer = call(fx, &(struct http_call_spec){.url = bad[i].url});

        assert_int_equal(answer.outcome, bad[i].outcome);
        assert_string_not_equal(answer.error, "");
    }
}

static void test_call__answer_beyond_the_bound__is_too_large(void **state)
{
    struct fixture *fx = *state;
    struct http_call_spec spec = {.url = url(fx, "/hello"), .max_body = 4};

    assert_int_equal(call(fx, &spec).outcome, HTTP_CALL_TOO_LARGE);
    spec.max_body = 5;
    assert_int_equal(call(fx, &spec).outcome, HTTP_CALL_OK);
}

static void test_call__connection__is_reused_unless_told(void **state)
{
    struct fixture *fx = *state;
    struct http_call_spec fresh = {.url = url(fx, "/hello"), .no_reuse = true};

    assert_true(get(fx, "/hello").connect_us > 0);
    assert_int_equal(get(fx, "/hello").connect_us, 0);
    assert_true(call(fx, &fresh).connect_us > 0);
    assert_int_equal(get(fx, "/hello").connect_us, 0);
}

static void test_call__beside_a_long_poll__does_not_queue_behind_it(void **state)
{
    struct fixture *fx = *state;
    struct answer waiting = {0};

    get(fx, "/hello"); /* a connection that both would like to have */
    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/wait")}, keep, &waiting);
    RUN_UNTIL(fx, fx->suspended != NULL);
    assert_string_equal(get(fx, "/hello").body, "hello");
    assert_false(waiting.done);
    http_respond(fx->suspended, 200, NULL, NULL, 0);
    fx->suspended = NULL;
    RUN_UNTIL(fx, waiting.done);
}

static void test_call__cancelled__calls_nobody_and_closes(void **state)
{
    struct fixture *fx = *state;
    struct answer answer = {0};
    struct http_call *handle = http_call(
        fx->client, &(struct http_call_spec){.url = url(fx, "/wait")}, keep, &answer);

    RUN_UNTIL(fx, fx->suspended != NULL);
    http_call_cancel(handle);
    RUN_UNTIL(fx, fx->suspended == NULL);
    assert_int_equal(fx->wake, HTTP_WAKE_CLOSED);
    handle = http_call(fx->client, &(struct http_call_spec){.url = "nonsense://"}, keep, &answer);
    http_call_cancel(handle);
    settle(fx, 10);
    assert_false(answer.done);
}

struct retry {
    struct fixture *fx;
    int left;
    struct http_call *self;
};

static void again(const struct http_result *result, void *arg)
{
    struct retry *retry = arg;

    (void)result;
    http_call_cancel(retry->self); /* within its own callback: nothing to cancel */
    if (--retry->left > 0)
        retry->self = http_call(retry->fx->client, &(struct http_call_spec){.url = "http://x/"},
                                again, retry);
}

static void test_call__that_fails_and_is_repeated_at_once__starves_no_timer(void **state)
{
    struct fixture *fx = *state;
    struct retry retry = {.fx = fx, .left = 1000000};
    struct answer answer = {0};

    retry.self = http_call(fx->client, &(struct http_call_spec){.url = "http://x/"}, again, &retry);
    http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/hello")}, keep, &answer);
    RUN_UNTIL(fx, answer.done);
    assert_true(retry.left > 0);
    http_call_cancel(retry.self);
}

static void test_call__environment_proxy__is_ignored(void **state)
{
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    assert_int_equal(get(*state, "/hello").status, 200);
    unsetenv("http_proxy");
}

static void test_call__by_name__goes_to_the_resolved_address(void **state)
{
    struct fixture *fx = *state;
    struct resolver *resolver;
    struct answer answer;

    assert_int_equal(resolver_new(&resolver, 0, NULL), 0);
    http_client_free(fx->client);
    assert_int_equal(http_client_new(&fx->client, fx->loop, resolver, NULL), 0);
    snprintf(fx->base, sizeof(fx->base), "http://localhost:%d", http_server_port(fx->server));
    answer = get(fx, "/hello");
    assert_int_equal(answer.outcome, HTTP_CALL_OK);
    assert_string_equal(answer.body, "hello");
    answer = call(fx, &(struct http_call_spec){.url = "http://a..b:1/", .connect_timeout_ms = 50});
    assert_int_equal(answer.outcome, HTTP_CALL_UNRESOLVED);
    http_client_free(fx->client);
    fx->client = NULL;
    resolver_free(resolver);
}

struct blocking {
    char url[128];
    struct http_result result;
    struct fixture *fx;
    bool done;
};

static void blocking_done(void *arg)
{
    ((struct blocking *)arg)->done = true;
}

static void *blocking_main(void *arg)
{
    struct blocking *blocking = arg;

    http_call_blocking(NULL,
                       &(struct http_call_spec){
                           .method = "POST", .url = blocking->url, .body = "abc", .body_size = 3},
                       &blocking->result);
    loop_post(blocking->fx->loop, blocking_done, blocking);
    return NULL;
}

static void test_blocking__call_from_a_thread__gets_its_answer(void **state)
{
    struct fixture *fx = *state;
    struct blocking blocking = {.fx = fx};
    struct http_result refused;
    pthread_t thread;

    snprintf(blocking.url, sizeof(blocking.url), "%s/echo", fx->base);
    assert_int_equal(pthread_create(&thread, NULL, blocking_main, &blocking), 0);
    RUN_UNTIL(fx, blocking.done);
    pthread_join(thread, NULL);
    assert_int_equal(blocking.result.outcome, HTTP_CALL_OK);
    assert_int_equal(blocking.result.status, 201);
    assert_string_equal(blocking.result.body, "abc");
    assert_string_equal(blocking.result.content_type, "application/octet-stream");
    http_result_free(&blocking.result);

    snprintf(fx->base, sizeof(fx->base), "http://127.0.0.1:%d", free_port());
    http_call_blocking(NULL, &(struct http_call_spec){.url = url(fx, "/")}, &refused);
    assert_int_equal(refused.outcome, HTTP_CALL_REFUSED);
    http_result_free(&refused);
}

enum { POLLS = 300 };

static bool all_done(const struct answer *answers)
{
    for (int i = 0; i < POLLS; i++)
        if (!answers[i].done)
            return false;
    return true;
}

static void test_polls__hundreds_at_once__all_end_at_their_deadline(void **state)
{
    struct fixture *fx = *state;
    static struct answer answers[POLLS];
    struct http_server_stats stats;

    fx->suspend_ms = 200;
    memset(answers, 0, sizeof(answers));
    for (int i = 0; i < POLLS; i++)
        http_call(fx->client, &(struct http_call_spec){.url = url(fx, "/wait-quietly")}, keep,
                  &answers[i]);
    RUN_UNTIL(fx, (http_server_stats(fx->server, &stats), stats.suspended == POLLS));
    RUN_UNTIL(fx, all_done(answers));
    for (int i = 0; i < POLLS; i++)
        assert_problem(&answers[i], 503);
    http_server_stats(fx->server, &stats);
    assert_int_equal(stats.suspended, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_call__refused_and_silent__are_told_apart),
        TEST(test_call__connection_cut_before_the_answer__is_reset),
        TEST(test_call__bad_urls__fail_through_the_callback),
        TEST(test_call__answer_beyond_the_bound__is_too_large),
        TEST(test_call__connection__is_reused_unless_told),
        TEST(test_call__beside_a_long_poll__does_not_queue_behind_it),
        TEST(test_call__cancelled__calls_nobody_and_closes),
        TEST(test_call__that_fails_and_is_repeated_at_once__starves_no_timer),
        TEST(test_call__environment_proxy__is_ignored),
        TEST(test_call__by_name__goes_to_the_resolved_address),
        TEST(test_blocking__call_from_a_thread__gets_its_answer),
        TEST(test_polls__hundreds_at_once__all_end_at_their_deadline),
    };

    http_client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
