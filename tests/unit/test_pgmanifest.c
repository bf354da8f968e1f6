/* PostgreSQL's backup manifest: with the sums of what came, and nothing else changed. */
#include "tests/unit/tmpdir.h"

#include <openssl/evp.h>

#include "snapshots/pgmanifest.h"

/* As PostgreSQL 15 wrote it, with three of its files, and MANIFEST_CHECKSUMS 'NONE'. */
#define HEAD "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n"
#define VERSION                                                                                    \
    "{ \"Path\": \"PG_VERSION\", \"Size\": 3, \"Last-Modified\": \"2026-11-29 14:00:00 GMT\""
#define QUOTED                                                                                     \
    "{ \"Path\": \"a \\\"b\\\" } c\", \"Size\": 9, \"Last-Modified\": \"2026-11-29 14:00:00 GMT\""
#define ENCODED                                                                                    \
    "{ \"Encoded-Path\": \"ff2f31\", \"Size\": 0, \"Last-Modified\": \"2026-11-29 14:00:00 GMT\""
#define TAIL                                                                                       \
    "],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", "                     \
    "\"End-LSN\": \"0/2000100\" }\n],\n"
#define LINES HEAD VERSION " },\n" QUOTED " },\n" ENCODED " }\n" TAIL

#define SUM(hex) ", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"" hex "\""

struct fixture {
    struct pg_manifest *manifest;
    char out[8192];
    size_t len;
};

static int put(void *arg, const char *data, size_t len, struct err *err)
{
    struct fixture *f = arg;

    (void)err;
    assert_true(f->len + len < sizeof(f->out));
    memcpy(f->out + f->len, data, len);
    f->len += len;
    f->out[f->len] = '\0';
    return 0;
}

/* LINES with the line that sums them up. */
static const char *with_checksum(const char *lines)
{
    static char text[8192];
    uint8_t digest[EVP_MAX_MD_SIZE];
    int len = snprintf(text, sizeof(text), "%s\"Manifest-Checksum\": \"", lines);

    assert_int_equal(EVP_Digest(lines, strlen(lines), digest, NULL, EVP_sha256(), NULL), 1);
    for (int i = 0; i < 32; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%02x", digest[i]);
    snprintf(text + len, sizeof(text) - (size_t)len, "\"}\n");
    return text;
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->manifest = pg_manifest_new();
    pg_manifest_note(f->manifest, "pg_wal/000000010000000000000002", 1,
                     file_sum((uint32_t)FILE_SUM_INIT, "w", 1));
    pg_manifest_note(f->manifest, "a \"b\" } c", 9,
                     file_sum(file_sum((uint32_t)FILE_SUM_INIT, "1234", 4), "56789", 5));
    pg_manifest_note(f->manifest, "PG_VERSION", 3, file_sum((uint32_t)FILE_SUM_INIT, "15\n", 3));
    pg_manifest_note(f->manifest, "\xff/1", 0, (uint32_t)FILE_SUM_INIT);
}

/* In pieces of STEP bytes. */
static int feed(struct fixture *f, const char *text, size_t step, struct err *err)
{
    size_t len = strlen(text);
    int rc = 0;

    begin(f);
    for (size_t at = 0; rc == 0 && at < len; at += step)
        rc = pg_manifest_feed(f->manifest, text + at, len - at < step ? len - at : step, put, f,
                              err);
    if (rc == 0)
        rc = pg_manifest_end(f->manifest, err);
    pg_manifest_free(f->manifest);
    return rc;
}

static void test_manifest__in_any_pieces__gets_the_sums_of_what_came(void **state)
{
    char given[8192], wanted[8192];
    struct fixture f;

    (void)state;
    snprintf(given, sizeof(given), "%s", with_checksum(LINES));
    /* "123456789" has the sum e3069283 (RFC 3720, B.4 has others of the same); low byte first */
    snprintf(wanted, sizeof(wanted), "%s",
             with_checksum(HEAD VERSION SUM("8a744722") " },\n" QUOTED SUM(
                 "839206e3") " },\n" ENCODED SUM("00000000") " }\n" TAIL));
    for (size_t step = 1; step < 700; step += step < 10 ? 1 : 97) {
        assert_int_equal(feed(&f, given, step, NULL), 0);
        assert_string_equal(f.out, wanted);
    }
}

static void check_refused(const char *text, const char *why)
{
    struct err err = {0};
    struct fixture f;

    assert_int_equal(feed(&f, text, 100, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_manifest__that_does_not_fit_what_came__is_refused(void **state)
{
    char text[8192];

    (void)state;
    check_refused(with_checksum(HEAD "{ \"Path\": \"base/1/2\", \"Size\": 3 }\n" TAIL),
                  "base/1/2, which did not come");
    check_refused(with_checksum(HEAD "{ \"Path\": \"PG_VERSION\", \"Size\": 4 }\n" TAIL),
                  "PG_VERSION came with 3 bytes");
    check_refused(with_checksum(HEAD "{ \"Path\": \"PG_VERSION\", \"Size\": -3 }\n" TAIL),
                  "PG_VERSION came with 3 bytes");
    check_refused(with_checksum(HEAD VERSION " },\n" VERSION " }\n" TAIL),
                  "names PG_VERSION twice");
    check_refused(with_checksum(HEAD "{ \"Path\": \"PG_VERS\n" TAIL), "unknown line");
    check_refused(with_checksum(HEAD "{ \"Path\": \"PG_VERSION\" }\n" TAIL), "unknown line");
    check_refused(with_checksum(HEAD VERSION SUM("8a744722") " }\n" TAIL), "unknown line");
    check_refused(with_checksum(HEAD "{ \"Encoded-Path\": \"fxf\", \"Size\": 3 }\n" TAIL),
                  "unknown line");
    snprintf(text, sizeof(text), "%s", with_checksum(LINES));
    text[strlen(HEAD) + 60] ^= 1;
    check_refused(text, "wrong checksum");
    check_refused(LINES, "ends early");
    snprintf(text, sizeof(text), "%smore", with_checksum(LINES));
    check_refused(text, "ends early");
    snprintf(text, sizeof(text), "%smore\n", with_checksum(LINES));
    check_refused(text, "behind its end");
    check_refused("", "ends early");
}

static void test_manifest__that_leaves_out_what_came__is_refused(void **state)
{
    const char *none = with_checksum(HEAD TAIL);
    struct fixture f = {.manifest = pg_manifest_new()};
    struct err err = {0};

    (void)state;
    pg_manifest_note(f.manifest, "pg_wal/00000002.history", 0, (uint32_t)FILE_SUM_INIT);
    assert_int_equal(pg_manifest_feed(f.manifest, none, strlen(none), put, &f, NULL), 0);
    assert_int_equal(pg_manifest_end(f.manifest, &err), -1); /* only segments are not listed */
    pg_manifest_free(f.manifest);
    check_refused(with_checksum(HEAD VERSION " },\n" ENCODED " }\n" TAIL), "files that came: 1");
    check_refused(with_checksum(HEAD TAIL), "files that came: 3");
    check_refused(with_checksum(HEAD "{\"Path\": \"PG_VERSION\", \"Size\": 3 }\n" TAIL),
                  "files that came: 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest__in_any_pieces__gets_the_sums_of_what_came),
        cmocka_unit_test(test_manifest__that_does_not_fit_what_came__is_refused),
        cmocka_unit_test(test_manifest__that_leaves_out_what_came__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
