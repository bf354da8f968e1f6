#include "snapshots/manifest.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rand.h"

/* "ogel-snapshot 1 <SHA-256 of the rest>\n", then one line of JSON. */
#define MAGIC "ogel-snapshot "

enum { DIGEST = 32, DEPTH_MAX = 8, HEAD_MAX = 128 };

void manifest_free(struct manifest *manifest)
{
    free(manifest->tablespaces);
    memset(manifest, 0, sizeof(*manifest));
}

static void digest_hex(const char *data, size_t len, char hex[2 * DIGEST + 1])
{
    uint8_t digest[DIGEST];

    OGEL_CHECK(EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) == 1);
    rand_hex_format(digest, DIGEST, hex);
}

/* --- numbers of the JSON -------------------------------------------------------------------- */

/* One table serves writing and reading. */
#define FIELD(name, type)                                                                          \
    {                                                                                              \
#        name, offsetof(struct manifest, name), sizeof(type)                                       \
    }

static const struct number {
    const char *name;
    size_t offset;
    size_t size;
} numbers[] = {
    FIELD(timeline, uint32_t),      FIELD(postgres_version, uint32_t),
    FIELD(started_ms, int64_t),     FIELD(stopped_ms, int64_t),
    FIELD(files, uint64_t),         FIELD(logical_bytes, uint64_t),
    FIELD(slices, uint64_t),        FIELD(zero_slices, uint64_t),
    FIELD(reused_slices, uint64_t), FIELD(stored_bytes, uint64_t),
    FIELD(packs, uint64_t),         FIELD(table_bytes, uint64_t),
};

static void write_numbers(const struct manifest *manifest, json_t *json)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(numbers); i++) {
        const char *at = (const char *)manifest + numbers[i].offset;
        uint32_t small;
        int64_t value;

        if (numbers[i].size == sizeof(small)) {
            memcpy(&small, at, sizeof(small));
            value = small;
        } else {
            memcpy(&value, at, sizeof(value));
        }
        json_object_set_new(json, numbers[i].name, json_integer(value));
    }
}

static int read_numbers(const json_t *json, struct manifest *manifest, struct err *err)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(numbers); i++) {
        char *at = (char *)manifest + numbers[i].offset;
        bool small = numbers[i].size == sizeof(uint32_t);
        int64_t value;

        if (json_field_int(json, numbers[i].name, JSON_REQUIRED, 0, small ? UINT32_MAX : INT64_MAX,
                           &value, err) < 0)
            return -1;
        if (small)
            memcpy(at, &(uint32_t){(uint32_t)value}, sizeof(uint32_t));
        else
            memcpy(at, &value, sizeof(value));
    }
    return 0;
}

/* --- writing -------------------------------------------------------------------------------- */

json_t *manifest_json(const struct manifest *manifest)
{
    char system_id[24], table_digest[2 * TABLE_DIGEST_SIZE + 1];
    json_t *json, *list = json_array();

    /* A system id has 64 bits, a number of JSON need not keep more than 53. */
    snprintf(system_id, sizeof(system_id), "%" PRIu64, manifest->system_id);
    rand_hex_format(manifest->table_digest, TABLE_DIGEST_SIZE, table_digest);
    for (uint32_t i = 0; i < manifest->tablespace_count; i++)
        json_array_append_new(list, json_pack("{s:I,s:o}", "oid",
                                              (json_int_t)manifest->tablespaces[i].oid, "location",
                                              json_text(manifest->tablespaces[i].location)));
    json = json_pack("{s:s,s:s,s:s,s:o,s:s,s:o,s:o,s:s,s:o}", "id", manifest->id, "parent",
                     manifest->parent, "tool", manifest->tool, "cluster",
                     json_text(manifest->cluster), "system_id", system_id, "start_lsn",
                     json_lsn(manifest->start_lsn), "stop_lsn", json_lsn(manifest->stop_lsn),
                     "table_sha256", table_digest, "tablespaces", list);
    OGEL_CHECK(json != NULL);
    write_numbers(manifest, json);
    return json;
}

char *manifest_encode(const struct manifest *manifest, size_t *len)
{
    json_t *json = manifest_json(manifest);
    char *line = json_dump_line(json), *data;
    char hex[2 * DIGEST + 1];

    json_decref(json);
    digest_hex(line, strlen(line), hex);
    data = xasprintf(MAGIC "%d %s\n%s", MANIFEST_VERSION, hex, line);
    free(line);
    *len = strlen(data);
    return data;
}

/* --- reading -------------------------------------------------------------------------------- */

/* Of the first line; *JSON is what stands behind it. */
static int check_head(const char *data, size_t len, const char **json, struct err *err)
{
    char head[HEAD_MAX], hex[2 * DIGEST + 1];
    const char *end = memchr(data, '\n', len < HEAD_MAX ? len : HEAD_MAX - 1);
    size_t head_len = end != NULL ? (size_t)(end - data) : 0, at = sizeof(MAGIC) - 1, digits;
    long version;

    if (end == NULL || head_len <= at || memcmp(data, MAGIC, at) != 0)
        return err_set(err, ERR_CORRUPT, "is no manifest, or its begin is damaged");
    memcpy(head, data, head_len);
    head[head_len] = '\0';
    digits = strspn(head + at, "0123456789");
    if (digits == 0 || digits > 6 || head[at + digits] != ' ')
        return err_set(err, ERR_CORRUPT, "is no manifest, or its begin is damaged");
    version = strtol(head + at, NULL, 10);
    if (version > MANIFEST_VERSION)
        return err_set(err, ERR_INVALID,
                       "has format %ld, this program reads up to %d: use a newer one", version,
                       MANIFEST_VERSION);
    *json = end + 1;
    digest_hex(*json, len - head_len - 1, hex);
    if (version != MANIFEST_VERSION || strcmp(head + at + digits + 1, hex) != 0)
        return err_set(err, ERR_CORRUPT,
                       "has other content than was written: its checksum is wrong");
    return 0;
}

static int read_id(const json_t *json, const char *name, bool may_miss, char id[SNAPSHOT_ID_SIZE],
                   struct err *err)
{
    if (json_field_string(json, name, JSON_REQUIRED, id, SNAPSHOT_ID_SIZE, err) < 0)
        return -1;
    if (snapshot_id_valid(id) || (may_miss && id[0] == '\0'))
        return 0;
    return err_set(err, ERR_INVALID, "field \"%s\": is no snapshot id", name);
}

static int read_identity(const json_t *json, struct manifest *manifest, struct err *err)
{
    char system_id[24], digest[2 * TABLE_DIGEST_SIZE + 1];
    char *end;

    if (read_id(json, "id", false, manifest->id, err) < 0 ||
        read_id(json, "parent", true, manifest->parent, err) < 0 ||
        json_field_string(json, "tool", JSON_REQUIRED, manifest->tool, sizeof(manifest->tool),
                          err) < 0 ||
        json_field_string(json, "cluster", JSON_REQUIRED, manifest->cluster,
                          sizeof(manifest->cluster), err) < 0 ||
        json_field_string(json, "system_id", JSON_REQUIRED, system_id, sizeof(system_id), err) <
            0 ||
        json_field_lsn(json, "start_lsn", JSON_REQUIRED, &manifest->start_lsn, err) < 0 ||
        json_field_lsn(json, "stop_lsn", JSON_REQUIRED, &manifest->stop_lsn, err) < 0 ||
        json_field_string(json, "table_sha256", JSON_REQUIRED, digest, sizeof(digest), err) < 0 ||
        rand_hex_parse(digest, manifest->table_digest, TABLE_DIGEST_SIZE, err) < 0)
        return -1;
    manifest->system_id = strtoull(system_id, &end, 10);
    if (system_id[0] < '1' || system_id[0] > '9' || *end != '\0')
        return err_set(err, ERR_INVALID, "field \"system_id\": is no number");
    return 0;
}

static int read_tablespaces(const json_t *json, struct manifest *manifest, struct err *err)
{
    const json_t *list, *item;
    size_t i;

    if (json_field_array(json, "tablespaces", JSON_REQUIRED, MANIFEST_TABLESPACES_MAX, &list, err) <
        0)
        return -1;
    manifest->tablespaces = xcalloc(json_array_size(list) + 1, sizeof(manifest->tablespaces[0]));
    json_array_foreach(list, i, item)
    {
        struct manifest_tablespace *one = &manifest->tablespaces[i];

        if (json_field_u32(item, "oid", JSON_REQUIRED, &one->oid, err) < 0 ||
            json_field_string(item, "location", JSON_REQUIRED, one->location, sizeof(one->location),
                              err) < 0)
            return -1;
        manifest->tablespace_count++;
    }
    return 0;
}

int manifest_decode(const char *data, size_t len, struct manifest *manifest, struct err *err)
{
    const char *text = NULL;
    json_t *json = NULL;
    int rc;

    memset(manifest, 0, sizeof(*manifest));
    if (check_head(data, len, &text, err) < 0)
        return -1;
    rc = json_parse_bounded(text, len - (size_t)(text - data), DEPTH_MAX, &json, err);
    if (rc == 0 &&
        (read_identity(json, manifest, err) < 0 || read_numbers(json, manifest, err) < 0 ||
         read_tablespaces(json, manifest, err) < 0))
        rc = -1;
    json_decref(json);
    /* Its checksum was right: somebody wrote it so. */
    if (rc < 0 && err != NULL)
        err->code = ERR_CORRUPT;
    if (rc < 0)
        manifest_free(manifest);
    return rc;
}

int manifest_load(struct store *store, const char *id, struct manifest *manifest, struct err *err)
{
    char key[STORE_KEY_MAX], *data;
    size_t len;
    int rc;

    memset(manifest, 0, sizeof(*manifest));
    if (!snapshot_id_valid(id))
        return err_set(err, ERR_INVALID,
                       "\"%.64s\" is no id of a snapshot (they look like "
                       "20260203T040506Z-1a2b3c4d)",
                       id);
    manifest_key(id, key);
    if (store_get_all(store, key, MANIFEST_BYTES_MAX, &data, &len, STORE_CALL_TIMEOUT_MS, err) < 0)
        return err_context(err, "snapshot %s", id);
    rc = manifest_decode(data, len, manifest, err);
    free(data);
    if (rc == 0 && strcmp(manifest->id, id) != 0) {
        rc = err_set(err, ERR_CORRUPT, "is the manifest of snapshot %s", manifest->id);
        manifest_free(manifest);
    }
    return rc < 0 ? err_context(err, "manifest of snapshot %s", id) : 0;
}
