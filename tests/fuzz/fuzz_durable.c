/* What an agent finds of its promise and its document: any bytes as a record, and any bytes as a
 * slot of the file, sealed or not. What is accepted says the same when it is written again; what is
 * refused is refused with a text. */
#include <endian.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/document.h"
#include "agent/durable.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slotfile.h"
#include "tests/unit/faulty_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_record(const uint8_t *data, size_t size)
{
    struct durable durable, again;
    struct err err = {0};
    json_t *json, *first, *second;

    if (json_parse_bounded((const char *)data, size, 16, &json, NULL) < 0)
        return;
    if (durable_from_json(json, &durable, &err) < 0) {
        OGEL_CHECK(err.code == ERR_INVALID && err.text[0] != '\0');
    } else {
        first = durable_to_json(&durable);
        OGEL_CHECK(durable_from_json(first, &again, &err) == 0);
        second = durable_to_json(&again);
        OGEL_CHECK(json_equal(first, second));
        json_decref(first);
        json_decref(second);
    }
    json_decref(json);
}

/* Header and digest right, so that the record itself is reached. */
static void seal(uint8_t *slot, size_t slot_size, uint32_t len, uint64_t sequence)
{
    const uint32_t numbers[2] = {htole32(1), htole32((uint32_t)slot_size)};
    const uint32_t rest[2] = {htole32(len), 0};
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    sequence = htole64(sequence);
    memcpy(slot, "OGELSLOT", 8);
    memcpy(slot + 8, numbers, 8);
    memcpy(slot + 16, &sequence, 8);
    memcpy(slot + 24, rest, 8);
    OGEL_CHECK(EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
               EVP_DigestUpdate(context, slot, 32) == 1 &&
               EVP_DigestUpdate(context, slot + SLOTFILE_HEADER_SIZE, len) == 1 &&
               EVP_DigestFinal_ex(context, slot + 32, NULL) == 1);
    EVP_MD_CTX_free(context);
}

/* The first byte says which slots are sealed; the bytes are halved between the slots. */
static void put(const char *name, size_t slot_size, const uint8_t *data, size_t size, uint8_t how)
{
    uint8_t *image = xcalloc(2, slot_size);
    size_t room = slot_size - SLOTFILE_HEADER_SIZE, half = size / 2 < room ? size / 2 : room;

    for (int slot = 0; slot < 2; slot++) {
        uint8_t *at = image + slot * slot_size;

        if ((how >> slot & 1) == 0) {
            memcpy(at, data + slot * half, half);
            continue;
        }
        memcpy(at + SLOTFILE_HEADER_SIZE, data + slot * half, half);
        seal(at, slot_size, (uint32_t)half, (uint64_t)1 + slot + (how >> 2 & 3));
    }
    disk_put(name, image, how & 0x10 ? 2 * slot_size : 2 * slot_size - half);
    free(image);
}

static void as_files(const uint8_t *data, size_t size, uint8_t how)
{
    static const char ids[NODE_COUNT][NODE_ID_SIZE] = {"n1", "n2", "n3"};
    struct durable durable, again;
    struct document_facts facts;
    struct slotfile *file;
    struct err err = {0};
    json_t *document;

    disk_make();
    put("promise", DURABLE_SLOT_BYTES, data, size, how);
    put("document", DOCUMENT_MAX_BYTES + 4096, data, size, how);
    if (durable_open(DISK_DIRECTORY, 0, &file, &durable, &err) == 0) {
        OGEL_CHECK(durable.node == 0);
        OGEL_CHECK(durable_write(file, &durable, &err) == 0);
        slotfile_close(file);
        OGEL_CHECK(durable_open(DISK_DIRECTORY, 0, &file, &again, &err) == 0);
        OGEL_CHECK(again.promise.generation == durable.promise.generation);
        slotfile_close(file);
    } else {
        OGEL_CHECK(strncmp(err.text, DISK_DIRECTORY "/promise", 18) == 0);
    }
    if (document_open(DISK_DIRECTORY, ids, &file, &document, &facts, &err) == 0) {
        slotfile_close(file);
        json_decref(document);
    } else {
        OGEL_CHECK(strncmp(err.text, DISK_DIRECTORY "/document", 19) == 0);
    }
    disk_remove();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    log_set_level(LOG_LEVEL_FATAL);
    if (data[0] & 0x80)
        as_files(data + 1, size - 1, data[0]);
    else
        as_record(data + 1, size - 1);
    return 0;
}
