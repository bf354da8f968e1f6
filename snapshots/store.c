#include "snapshots/store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "snapshots/store_internal.h"

/* Components of [A-Za-z0-9._-] that are not "", "." or "..": a name is a path in a directory and
 * needs no escaping in a URL. */
bool store_key_valid(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";

    if (key[0] == '\0' || strlen(key) >= STORE_KEY_MAX)
        return false;
    for (;;) {
        size_t len = strspn(key, allowed);

        if (len == 0 || strspn(key, ".") == len)
            return false;
        if (key[len] == '\0')
            return true;
        if (key[len] != '/')
            return false;
        key += len + 1;
    }
}

static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

int store_open(const char *url, const struct store_options *options, struct store **store,
               struct err *err)
{
    const struct store_options none = {0};
    const char *place;
    int rc;

    *store = NULL;
    if (options == NULL)
        options = &none;
    if ((place = after(url, "file://")) != NULL || url[0] == '/')
        rc = store_file_open(place != NULL ? place : url, store, err);
    else if ((place = after(url, "s3://")) != NULL)
        rc = store_s3_open(place, true, options, store, err);
    else if ((place = after(url, "s3+http://")) != NULL)
        rc = store_s3_open(place, false, options, store, err);
    else
        return err_set(err, ERR_INVALID,
                       "store: what was given is no place to keep snapshots (allowed: /DIRECTORY, "
                       "file:///DIRECTORY, s3://HOST[:PORT]/BUCKET[/PREFIX], the same with "
                       "s3+http:// where there is no TLS)");
    if (rc == 0)
        (*store)->name = xstrdup(url);
    return rc;
}

void store_close(struct store *store)
{
    char *name;

    if (store == NULL)
        return;
    name = store->name;
    store->ops->close(store);
    free(name);
}

const char *store_name(const struct store *store)
{
    return store->name;
}

bool store_has_put_new(const struct store *store)
{
    return store->ops->has_put_new;
}

/* Says which object of which store it was about. */
static int told(struct store *store, const char *key, int rc, struct err *err)
{
    return rc < 0 ? err_context(err, "store %s: %s", store->name, key) : rc;
}

static int put(struct store *store, const char *key, const struct store_body *body, bool only_new,
               int64_t timeout_ms, struct err *err)
{
    OGEL_CHECK(store_key_valid(key));
    if (body->size > STORE_OBJECT_MAX)
        return told(
            store, key,
            err_set(err, ERR_INVALID, "%" PRIu64 " bytes are too many for one object", body->size),
            err);
    return told(store, key,
                store->ops->put(store, key, body, only_new, clock_mono_ms() + timeout_ms, err),
                err);
}

int store_put(struct store *store, const char *key, const struct store_body *body,
              int64_t timeout_ms, struct err *err)
{
    return put(store, key, body, false, timeout_ms, err);
}

int store_put_new(struct store *store, const char *key, const struct store_body *body,
                  int64_t timeout_ms, struct err *err)
{
    if (!store->ops->has_put_new)
        return told(store, key,
                    err_set(err, ERR_REFUSED, "this store cannot tell whether an object is new"),
                    err);
    return put(store, key, body, true, timeout_ms, err);
}

int store_get(struct store *store, const char *key, uint64_t offset, size_t len, void *buf,
              int64_t timeout_ms, struct err *err)
{
    size_t got = 0;
    int rc;

    OGEL_CHECK(store_key_valid(key));
    if (len == 0)
        return 0;
    rc = store->ops->get(store, key, offset, len, buf, &got, clock_mono_ms() + timeout_ms, err);
    if (rc == 0 && got < len)
        rc = err_set(err, ERR_CORRUPT,
                     "is truncated: it ends at byte %" PRIu64 ", and byte %" PRIu64 " was needed",
                     offset + got, offset + len);
    return told(store, key, rc, err);
}

int store_get_all(struct store *store, const char *key, size_t max, char **data, size_t *len,
                  int64_t timeout_ms, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms, left_ms;
    uint64_t size;

    *data = NULL;
    if (store_head(store, key, &size, timeout_ms, err) < 0)
        return -1;
    if (size > max)
        return told(
            store, key,
            err_set(err, ERR_CORRUPT, "has %" PRIu64 " bytes, at most %zu are expected", size, max),
            err);
    left_ms = deadline_ms - clock_mono_ms();
    *data = xmalloc((size_t)size + 1);
    if (store_get(store, key, 0, (size_t)size, *data, left_ms > 1 ? left_ms : 1, err) < 0) {
        free(*data);
        *data = NULL;
        return -1;
    }
    (*data)[size] = '\0';
    *len = (size_t)size;
    return 0;
}

int store_head(struct store *store, const char *key, uint64_t *size, int64_t timeout_ms,
               struct err *err)
{
    OGEL_CHECK(store_key_valid(key));
    return told(store, key, store->ops->head(store, key, size, clock_mono_ms() + timeout_ms, err),
                err);
}

int store_list(struct store *store, const char *prefix, store_list_fn *fn, void *arg,
               int64_t timeout_ms, struct err *err)
{
    size_t len = strlen(prefix);

    OGEL_CHECK(len == 0 || prefix[len - 1] == '/');
    return store->ops->list(store, prefix, fn, arg, clock_mono_ms() + timeout_ms, err);
}

int store_delete(struct store *store, const char *key, int64_t timeout_ms, struct err *err)
{
    OGEL_CHECK(store_key_valid(key));
    return told(store, key, store->ops->remove(store, key, clock_mono_ms() + timeout_ms, err), err);
}

int store_list_unfinished(struct store *store, store_list_fn *fn, void *arg, int64_t timeout_ms,
                          struct err *err)
{
    if (store->ops->list_unfinished == NULL)
        return 0;
    return store->ops->list_unfinished(store, fn, arg, clock_mono_ms() + timeout_ms, err);
}

int store_delete_unfinished(struct store *store, const char *name, struct err *err)
{
    OGEL_CHECK(store_key_valid(name) && strchr(name, '/') == NULL);
    if (store->ops->remove_unfinished == NULL)
        return 0;
    return told(store, name, store->ops->remove_unfinished(store, name, err), err);
}
