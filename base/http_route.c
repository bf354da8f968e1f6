#include "base/http_route.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct segment {
    const char *text; /* literal, or the parameter's name */
    size_t len;
    bool is_param;
};

struct compiled {
    int index; /* in the caller's table */
    unsigned methods;
    int n_segments;
    struct segment segments[HTTP_SEGMENTS_MAX];
    char *names; /* the parameters' names, NUL-terminated, one after the other */
};

struct http_routes {
    size_t n;
    struct compiled routes[];
};

static int compile(struct compiled *compiled, const struct http_route *route, struct err *err)
{
    const char *at = route->pattern;
    char *names;
    int n_params = 0;

    if (at[0] != '/' || strlen(at) >= HTTP_PATH_SIZE || route->handler == NULL)
        return err_set(err, ERR_INTERNAL, "route \"%s\" needs a slash first and a handler", at);
    names = compiled->names = xcalloc(1, strlen(at) + 1);
    compiled->methods = route->methods;
    if (strcmp(at, "/") == 0)
        return 0;
    while (*at == '/') {
        size_t len = strcspn(++at, "/");
        struct segment *segment = &compiled->segments[compiled->n_segments];

        if (compiled->n_segments++ == HTTP_SEGMENTS_MAX || len == 0)
            return err_set(err, ERR_INTERNAL, "route \"%s\" has an empty or too many segments",
                           route->pattern);
        *segment = (struct segment){.text = at, .len = len};
        if (at[0] == '{' && at[len - 1] == '}') {
            if (n_params++ == HTTP_PARAMS_MAX)
                return err_set(err, ERR_INTERNAL, "route \"%s\" has too many parameters",
                               route->pattern);
            memcpy(names, at + 1, len - 2);
            *segment = (struct segment){.text = names, .len = len - 2, .is_param = true};
            names += len - 1;
        }
        at += len;
    }
    return 0;
}

/* Literals before parameters at the first difference, so that the first match is the best one. */
static int compare(const void *left, const void *right)
{
    const struct compiled *a = left, *b = right;

    for (int i = 0; i < a->n_segments && i < b->n_segments; i++) {
        if (a->segments[i].is_param != b->segments[i].is_param)
            return a->segments[i].is_param ? 1 : -1;
    }
    return a->index - b->index;
}

static bool same_pattern(const struct compiled *a, const struct compiled *b)
{
    if (a->n_segments != b->n_segments)
        return false;
    for (int i = 0; i < a->n_segments; i++) {
        const struct segment *left = &a->segments[i], *right = &b->segments[i];

        if (left->is_param != right->is_param)
            return false;
        if (!left->is_param &&
            (left->len != right->len || memcmp(left->text, right->text, left->len) != 0))
            return false;
    }
    return true;
}

int http_routes_new(struct http_routes **result, const struct http_route *table, size_t n,
                    struct err *err)
{
    struct http_routes *routes = xcalloc(1, sizeof(*routes) + n * sizeof(routes->routes[0]));

    for (size_t i = 0; i < n; i++) {
        routes->n = i + 1;
        routes->routes[i].index = (int)i;
        if (compile(&routes->routes[i], &table[i], err) != 0)
            goto fail;
        for (size_t j = 0; j < i; j++) {
            if ((routes->routes[j].methods & table[i].methods) != 0 &&
                same_pattern(&routes->routes[i], &routes->routes[j])) {
                err_set(err, ERR_INTERNAL, "route \"%s\" is given twice", table[i].pattern);
                goto fail;
            }
        }
    }
    qsort(routes->routes, n, sizeof(routes->routes[0]), compare);
    *result = routes;
    return 0;

fail:
    http_routes_free(routes);
    return -1;
}

void http_routes_free(struct http_routes *routes)
{
    if (routes == NULL)
        return;
    for (size_t i = 0; i < routes->n; i++)
        free(routes->routes[i].names);
    free(routes);
}

struct path {
    int n;
    const char *segments[HTTP_SEGMENTS_MAX];
    size_t lens[HTTP_SEGMENTS_MAX];
};

/* Copies the path into match->text and cuts it. False if no pattern can match it. */
static bool split(const char *path, struct http_match *match, struct path *cut)
{
    size_t len = strlen(path);
    char *at;

    if (path[0] != '/' || len >= sizeof(match->text))
        return false;
    memcpy(match->text, path, len + 1);
    cut->n = 0;
    if (len == 1)
        return true;
    at = match->text;
    while (at != NULL) {
        char *end = strchr(++at, '/');
        size_t segment_len = end != NULL ? (size_t)(end - at) : strlen(at);

        if (segment_len == 0 || cut->n == HTTP_SEGMENTS_MAX)
            return false;
        if (end != NULL)
            *end = '\0';
        cut->segments[cut->n] = at;
        cut->lens[cut->n++] = segment_len;
        at = end;
    }
    return true;
}

static bool fits(const struct compiled *route, const struct path *path)
{
    if (route->n_segments != path->n)
        return false;
    for (int i = 0; i < path->n; i++) {
        const struct segment *segment = &route->segments[i];

        if (segment->is_param)
            continue;
        if (segment->len != path->lens[i] ||
            memcmp(segment->text, path->segments[i], segment->len) != 0)
            return false;
    }
    return true;
}

static void choose(const struct compiled *route, const struct path *path, struct http_match *match)
{
    match->route = route->index;
    match->n_params = 0;
    for (int i = 0; i < path->n; i++) {
        if (!route->segments[i].is_param)
            continue;
        match->names[match->n_params] = route->segments[i].text;
        match->values[match->n_params++] = path->segments[i];
    }
}

void http_routes_match(const struct http_routes *routes, enum http_method method, const char *path,
                       struct http_match *match)
{
    struct path cut;
    const struct compiled *get = NULL;

    match->route = -1;
    match->allowed = 0;
    match->n_params = 0;
    if (!split(path, match, &cut))
        return;
    for (size_t i = 0; i < routes->n; i++) {
        const struct compiled *route = &routes->routes[i];

        if (!fits(route, &cut))
            continue;
        match->allowed |= route->methods | HTTP_OPTIONS;
        if (route->methods & HTTP_GET) {
            match->allowed |= HTTP_HEAD;
            if (get == NULL)
                get = route;
        }
        if (match->route < 0 && (route->methods & method))
            choose(route, &cut, match);
    }
    if (match->route < 0 && method == HTTP_HEAD && get != NULL)
        choose(get, &cut, match);
}
