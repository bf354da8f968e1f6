/* What every backend of the store must do. */
#ifndef OGEL_TESTS_UNIT_STORE_CONTRACT_H
#define OGEL_TESTS_UNIT_STORE_CONTRACT_H

#include "tests/unit/tmpdir.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/rand.h"
#include "snapshots/store.h"

enum { CONTRACT_MS = 20000 };

#define must(call)                                                                                 \
    do {                                                                                           \
        struct err err_ = {0};                                                                     \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, err_.text);                                                  \
    } while (0)

static inline void put_text(struct store *store, const char *key, const char *text)
{
    const struct store_body body = {.data = text, .size = strlen(text)};

    must(store_put(store, key, &body, CONTRACT_MS, &err_));
}

static inline void assert_object(struct store *store, const char *key, const char *text)
{
    char *data;
    size_t len;

    must(store_get_all(store, key, 1 << 20, &data, &len, CONTRACT_MS, &err_));
    assert_int_equal(len, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

struct contract_list {
    int count;
    uint64_t bytes;
    char keys[32][64];
    int stop_at;
};

static inline int contract_note(const char *key, uint64_t size, void *arg, struct err *err)
{
    struct contract_list *list = arg;

    if (list->stop_at > 0 && list->count == list->stop_at)
        return err_set(err, ERR_REFUSED, "enough");
    if (list->count < 32)
        snprintf(list->keys[list->count], sizeof(list->keys[0]), "%s", key);
    list->count++;
    list->bytes += size;
    return 0;
}

static inline bool contract_listed(const struct contract_list *list, const char *key)
{
    for (int i = 0; i < list->count && i < 32; i++) {
        if (strcmp(list->keys[i], key) == 0)
            return true;
    }
    return false;
}

static inline void contract_get(struct store *store)
{
    struct err err = {0};
    char buf[16] = "";
    uint64_t size;

    put_text(store, "a/one", "0123456789");
    assert_object(store, "a/one", "0123456789");
    must(store_head(store, "a/one", &size, CONTRACT_MS, &err_));
    assert_int_equal(size, 10);
    must(store_get(store, "a/one", 3, 4, buf, CONTRACT_MS, &err_));
    assert_memory_equal(buf, "3456", 4);
    assert_int_equal(store_get(store, "a/one", 8, 4, buf, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "truncated"));
    assert_int_equal(store_get(store, "a/one", 100, 4, buf, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    put_text(store, "a/empty", "");
    assert_object(store, "a/empty", "");
}

static inline void contract_missing(struct store *store)
{
    struct err err = {0};
    char buf[4];
    uint64_t size;

    assert_int_equal(store_get(store, "no/such", 0, 4, buf, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "no/such"));
    assert_int_equal(store_head(store, "no/such", &size, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    must(store_delete(store, "no/such", CONTRACT_MS, &err_));
    put_text(store, "a/gone", "x");
    must(store_delete(store, "a/gone", CONTRACT_MS, &err_));
    assert_int_equal(store_head(store, "a/gone", &size, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static inline void contract_list(struct store *store)
{
    struct contract_list list = {0};
    struct err err = {0};

    put_text(store, "list/a/1", "1");
    put_text(store, "list/a/2", "22");
    put_text(store, "list/b", "333");
    put_text(store, "lister", "no");
    must(store_list(store, "list/", contract_note, &list, CONTRACT_MS, &err_));
    assert_int_equal(list.count, 3);
    assert_int_equal(list.bytes, 6);
    assert_true(contract_listed(&list, "list/a/1"));
    assert_true(contract_listed(&list, "list/a/2"));
    assert_true(contract_listed(&list, "list/b"));
    list = (struct contract_list){0};
    must(store_list(store, "nothing/", contract_note, &list, CONTRACT_MS, &err_));
    assert_int_equal(list.count, 0);
    list = (struct contract_list){.stop_at = 1};
    assert_int_equal(store_list(store, "list/", contract_note, &list, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
}

/* From memory and from a file, with bytes of every kind. */
static inline void contract_big(struct store *store)
{
    enum { SIZE = 3 * 1024 * 1024 + 17 };
    char *sent = xmalloc(SIZE), *got;
    struct store_body body = {.data = sent, .size = SIZE};
    size_t len;
    int fd = open(tmp_path("big"), O_RDWR | O_CREAT | O_TRUNC, 0600);

    rand_bytes(sent, SIZE);
    assert_int_equal(write(fd, sent, SIZE), SIZE);
    for (int from_file = 0; from_file < 2; from_file++) {
        if (from_file)
            body = (struct store_body){.fd = fd, .size = SIZE};
        must(store_put(store, "big", &body, CONTRACT_MS, &err_));
        must(store_get_all(store, "big", SIZE, &got, &len, CONTRACT_MS, &err_));
        assert_int_equal(len, SIZE);
        assert_memory_equal(got, sent, SIZE);
        free(got);
        must(store_delete(store, "big", CONTRACT_MS, &err_));
    }
    close(fd);
    free(sent);
}

#endif
