#include "snapshots/names.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rand.h"

void snapshot_id_make(int64_t wall_ms, char id[SNAPSHOT_ID_SIZE])
{
    char time[CLOCK_ISO8601_SIZE];

    clock_format_iso8601(wall_ms, time); /* 2026-02-03T04:05:06.789Z */
    snprintf(id, SNAPSHOT_ID_SIZE, "%.4s%.2s%.2sT%.2s%.2s%.2sZ-%08" PRIx32, time, time + 5,
             time + 8, time + 11, time + 14, time + 17, (uint32_t)rand_u64());
}

bool snapshot_id_valid(const char *id)
{
    static const char form[] = "dddddddd"
                               "T"
                               "dddddd"
                               "Z"
                               "-"
                               "xxxxxxxx";

    if (strnlen(id, SNAPSHOT_ID_SIZE) != SNAPSHOT_ID_LEN)
        return false;
    for (size_t i = 0; i < SNAPSHOT_ID_LEN; i++) {
        unsigned char c = (unsigned char)id[i];
        bool digit = isdigit(c) != 0;

        if (form[i] == 'd'   ? !digit
            : form[i] == 'x' ? !(digit || (c >= 'a' && c <= 'f'))
                             : c != (unsigned char)form[i])
            return false;
    }
    return true;
}

void manifest_key(const char *id, char key[STORE_KEY_MAX])
{
    snprintf(key, STORE_KEY_MAX, MANIFEST_PREFIX "%s", id);
}

void file_table_key(const char *id, char key[STORE_KEY_MAX])
{
    snprintf(key, STORE_KEY_MAX, "data/%s/files", id);
}

void pack_key(const char *id, uint32_t number, char key[STORE_KEY_MAX])
{
    snprintf(key, STORE_KEY_MAX, "data/%s/pack-%08" PRIu32, id, number);
}

void map_key(const char *id, const uint8_t digest[MAP_DIGEST_SIZE], char key[STORE_KEY_MAX])
{
    char hex[2 * MAP_DIGEST_SIZE + 1];

    snprintf(key, STORE_KEY_MAX, "data/%s/map-%s", id,
             rand_hex_format(digest, MAP_DIGEST_SIZE, hex));
}

void pin_key(const char *parent, const char *job, char key[STORE_KEY_MAX])
{
    snprintf(key, STORE_KEY_MAX, "pins/%s/%s", parent, job);
}

void prefixed_key(const char *prefix, const char *name, char key[STORE_KEY_MAX])
{
    snprintf(key, STORE_KEY_MAX, "%s%s", prefix, name);
}

void job_key(const char *job, char key[STORE_KEY_MAX])
{
    prefixed_key(JOB_PREFIX, job, key);
}

bool key_split(const char *key, const char *prefix, char id[SNAPSHOT_ID_SIZE], const char **rest)
{
    size_t len = strlen(prefix);

    if (strncmp(key, prefix, len) != 0 || strnlen(key + len, SNAPSHOT_ID_LEN) != SNAPSHOT_ID_LEN)
        return false;
    key += len;
    memcpy(id, key, SNAPSHOT_ID_LEN);
    id[SNAPSHOT_ID_LEN] = '\0';
    key += SNAPSHOT_ID_LEN;
    *rest = key[0] == '/' ? key + 1 : key;
    return snapshot_id_valid(id) && (key[0] == '\0' || (key[0] == '/' && key[1] != '\0'));
}

/* FNV-1a */
uint64_t path_hash(const char *path)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *path != '\0'; path++)
        hash = (hash ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
    return hash;
}
