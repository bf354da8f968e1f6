/* Routes of the HTTP server: patterns compiled once, matched without allocation. Internal to it. */
#ifndef OGEL_BASE_HTTP_ROUTE_H
#define OGEL_BASE_HTTP_ROUTE_H

#include "base/http_server.h"

enum { HTTP_PATH_SIZE = 512, HTTP_SEGMENTS_MAX = 12 };

struct http_routes;

struct http_match {
    int route;        /* index in the table as given; -1: none */
    unsigned allowed; /* methods that the path has (HTTP_*, HEAD and OPTIONS included); 0: no such
                         path */
    int n_params;
    const char *names[HTTP_PARAMS_MAX];
    const char *values[HTTP_PARAMS_MAX]; /* point into text */
    char text[HTTP_PATH_SIZE];           /* the path, cut at its slashes */
};

/* Refuses patterns that do not start with a slash, are too long, or are given twice for one method.
 */
OGEL_MUST_CHECK int http_routes_new(struct http_routes **routes, const struct http_route *table,
                                    size_t n, struct err *err);
void http_routes_free(struct http_routes *routes); /* NULL is allowed */

/* Finds the route of a decoded path. method 0 stands for one we do not know: no route has it. Paths
 * of HTTP_PATH_SIZE and more match nothing. */
void http_routes_match(const struct http_routes *routes, enum http_method method, const char *path,
                       struct http_match *match);

#endif
