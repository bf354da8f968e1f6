/* The route matcher takes any path a client may send. The first byte chooses the method. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_route.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void handler(struct http_request *request, void *arg)
{
    (void)request;
    (void)arg;
}

static const struct http_route table[] = {
    {HTTP_GET, "/", HTTP_OPEN, handler, NULL},
    {HTTP_GET, "/v1/clusters", HTTP_READ, handler, NULL},
    {HTTP_GET, "/v1/clusters/{name}", HTTP_READ, handler, NULL},
    {HTTP_POST, "/v1/clusters/{name}/nodes/{id}/{job}/{x}", HTTP_ADMIN, handler, NULL},
    {HTTP_POST | HTTP_GET, "/v1/clusters/{name}/events", HTTP_READ, handler, NULL},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_routes *routes;
    struct http_match match;
    struct err err = {0};

    if (size == 0)
        return 0;
    if (routes == NULL)
        OGEL_CHECK(http_routes_new(&routes, table, OGEL_ARRAY_LEN(table), &err) == 0);
    char *path = xstrndup((const char *)data + 1, size - 1);

    http_routes_match(routes, data[0] & 0x7f, path, &match);
    OGEL_CHECK(match.route < 0 || match.allowed != 0);
    for (int i = 0; i < match.n_params; i++)
        OGEL_CHECK(match.values[i][0] != '\0' && strchr(match.values[i], '/') == NULL);
    free(path);
    return 0;
}
