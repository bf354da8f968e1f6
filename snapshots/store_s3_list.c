/* Listings of S3. Where the body of one was cut off, libs3 takes it for a shorter listing; so a
 * page counts once it has come twice the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "snapshots/store_s3_internal.h"

enum {
    LIST_PAGE = 1000,
    LOOKS_MAX = 6, /* at one page */
};

static void keep_key(struct s3_page *page, const char *key, uint64_t size)
{
    if (page->count == page->room) {
        page->room = page->room == 0 ? LIST_PAGE : 2 * page->room;
        page->keys = xreallocarray(page->keys, page->room, sizeof(page->keys[0]));
        page->sizes = xreallocarray(page->sizes, page->room, sizeof(page->sizes[0]));
    }
    page->sizes[page->count] = size;
    page->keys[page->count++] = xstrdup(key);
}

static S3Status on_list(int truncated, const char *next_marker, int count,
                        const S3ListBucketContent *contents, int prefix_count,
                        const char **prefixes, void *arg)
{
    struct s3_request *request = arg;

    (void)prefix_count;
    (void)prefixes;
    request->truncated = truncated != 0;
    for (int i = 0; i < count; i++) {
        const char *key = contents[i].key + request->prefix_len;

        if (strlen(contents[i].key) > request->prefix_len && store_key_valid(key))
            keep_key(request->page, key, contents[i].size);
    }
    /* Servers give a marker only where a delimiter was asked for. */
    if (count > 0)
        snprintf(request->marker, sizeof(request->marker), "%s", contents[count - 1].key);
    else if (next_marker != NULL)
        snprintf(request->marker, sizeof(request->marker), "%s", next_marker);
    return S3StatusOK;
}

struct list_call {
    const char *prefix;
    const char *marker;
};

static void start_list(const S3BucketContext *bucket, const char *name, S3RequestContext *context,
                       struct s3_request *request, const void *arg)
{
    static const S3ListBucketHandler handler = {{s3_on_properties, s3_on_complete}, on_list};
    const struct list_call *list = arg;

    (void)name;
    S3_list_bucket(bucket, list->prefix, list->marker, NULL, LIST_PAGE, context,
                   S3_NO_TIMEOUT & handler, request);
}

static void page_free(struct s3_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        free(page->keys[i]);
    free(page->keys);
    free(page->sizes);
    *page = (struct s3_page){0};
}

static bool page_same(const struct s3_page *a, const struct s3_page *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (a->sizes[i] != b->sizes[i] || strcmp(a->keys[i], b->keys[i]) != 0)
            return false;
    }
    return true;
}

/* One page, once. */
static int look_at_page(struct s3_store *s3, const struct list_call *list, struct s3_page *page,
                        struct s3_request *request, int64_t deadline_ms, struct err *err)
{
    const struct s3_call call = {.start = start_list, .arg = list, .only_once = true};
    struct s3_backoff backoff = {0};

    for (;;) {
        page_free(page);
        *request = (struct s3_request){.page = page, .prefix_len = strlen(s3->prefix)};
        if (s3_run_call(s3, "", &call, request, deadline_ms, err) == 0)
            return 0;
        if (!s3_may_work_later(request) ||
            !s3_back_off(s3, &backoff, request->status == S3StatusErrorSlowDown, deadline_ms))
            return err_context(err, "store %s: cannot list", s3->base.name);
    }
}

/* One page, until it has come twice the same. */
static int list_page(struct s3_store *s3, const struct list_call *list, struct s3_page *page,
                     struct s3_request *request, int64_t deadline_ms, struct err *err)
{
    struct s3_page before = {0};
    bool same = false;
    int rc = 0;

    for (int looks = 0; rc == 0 && !same && looks < LOOKS_MAX; looks++) {
        rc = look_at_page(s3, list, page, request, deadline_ms, err);
        same = rc == 0 && looks > 0 && page_same(&before, page);
        if (rc == 0 && !same) {
            page_free(&before);
            before = *page;
            *page = (struct s3_page){0};
        }
    }
    page_free(&before);
    if (rc == 0 && !same)
        rc = err_set(err, ERR_UNAVAILABLE, "store %s: the listing is another each time",
                     s3->base.name);
    return rc;
}

int s3_list(struct store *store, const char *prefix, store_list_fn *fn, void *arg,
            int64_t deadline_ms, struct err *err)
{
    char *full = s3_object_name(store, prefix), *marker = xstrdup("");
    struct s3_request request = {.truncated = true};
    struct s3_page page = {0};
    int rc = 0;

    while (rc == 0 && request.truncated) {
        struct list_call list = {full, marker};

        rc = list_page(s3_of(store), &list, &page, &request, deadline_ms, err);
        for (size_t i = 0; i < page.count && rc == 0; i++)
            rc = fn(page.keys[i], page.sizes[i], arg, err);
        /* A server that does not go on must not keep us for ever. */
        if (rc == 0 && request.truncated && strcmp(marker, request.marker) >= 0)
            rc = err_set(err, ERR_CORRUPT, "store %s: the listing does not go on", store->name);
        free(marker);
        marker = xstrdup(request.marker);
        page_free(&page);
    }
    free(marker);
    free(full);
    return rc;
}
