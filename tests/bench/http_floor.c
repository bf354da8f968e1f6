/*
 * The floor for the HTTP API: the same small answer from libmicrohttpd alone ("bare": its own epoll
 * thread, nothing looked at), and from base/http_server with a route, a token and an answer made
 * anew each time ("base").
 *
 *   http_floor bare|base     prints the port; ends when standard input does
 */
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/http_server.h"
#include "base/loop.h"

#define TOKEN "bench-token-0123456789"

static const char hello_text[] = "{\"host\":\"127.0.0.1\",\"port\":5432,\"role\":\"leader\"}\n";

static enum MHD_Result bare_hello(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    static int seen;
    struct MHD_Response *response;
    enum MHD_Result result;

    (void)arg;
    (void)url;
    (void)method;
    (void)version;
    (void)data;
    (void)size;
    if (*context == NULL) {
        *context = &seen;
        return MHD_YES;
    }
    response = MHD_create_response_from_buffer(
        sizeof(hello_text) - 1, (void *)(uintptr_t)hello_text, MHD_RESPMEM_PERSISTENT);
    result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static int run_bare(void)
{
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL,
                                                 bare_hello, NULL, MHD_OPTION_SOCK_ADDR, &loopback,
                                                 MHD_OPTION_END);
    char byte;

    if (daemon == NULL)
        return 1;
    printf("%d\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    MHD_stop_daemon(daemon);
    return 0;
}

static void base_hello(struct http_request *request, void *arg)
{
    (void)arg;
    if (http_request_query(request, "intent") == NULL)
        http_respond_problem(request, 400, NULL, "intent is missing");
    else
        http_respond(request, 200, "application/json", hello_text, sizeof(hello_text) - 1);
}

static void observe(void *arg, int route, int status, int64_t duration_us, bool waited)
{
    int64_t *sum = arg;

    (void)route;
    (void)status;
    (void)waited;
    *sum += duration_us;
}

static void input_ended(int fd, unsigned events, void *arg)
{
    char byte;

    (void)events;
    if (read(fd, &byte, 1) <= 0)
        loop_stop(arg);
}

static int run_base(void)
{
    static int64_t sum_us;
    const struct http_route routes[] = {
        {HTTP_GET | HTTP_POST, "/connect", HTTP_READ, base_hello, NULL},
        {HTTP_GET, "/v1/clusters/{name}/events", HTTP_READ, base_hello, NULL},
        {HTTP_GET, "/healthz", HTTP_OPEN, base_hello, NULL},
    };
    const struct http_token tokens[] = {
        {"other", HTTP_ROLE_ADMIN, "other-token-0123456789"},
        {"bench", HTTP_ROLE_READ, TOKEN},
    };
    const struct http_server_config config = {.routes = routes,
                                              .n_routes = 3,
                                              .tokens = tokens,
                                              .n_tokens = 2,
                                              .observe = observe,
                                              .observe_arg = &sum_us};
    struct http_server *server = NULL;
    struct loop *loop = NULL;
    struct err err = {0};
    int status = 1;

    if (loop_new(&loop, &err) != 0 || http_server_start(&server, loop, &config, &err) != 0)
        goto out;
    loop_watch_new(loop, STDIN_FILENO, LOOP_READ, input_ended, loop);
    printf("%d\n", http_server_port(server));
    fflush(stdout);
    if (loop_run(loop, &err) == 0)
        status = 0;

out:
    if (status != 0)
        fprintf(stderr, "http_floor: %s\n", err.text);
    http_server_stop(server);
    _exit(status);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "bare") == 0)
        return run_bare();
    if (argc == 2 && strcmp(argv[1], "base") == 0)
        return run_base();
    fprintf(stderr, "usage: http_floor bare|base\n");
    return 64;
}
