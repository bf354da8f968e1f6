/* What PostgreSQL's programs print and what its small files hold: any bytes. The first byte says as
 * what they are read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pgdata.h"
#include "agent/postmaster.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/unit/faulty_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_control(const char *text)
{
    struct pgdata_control control;
    struct err err = {0};

    if (pgdata_control_parse(text, &control, &err) < 0) {
        OGEL_CHECK(err.code == ERR_CORRUPT && err.text[0] != '\0');
        return;
    }
    OGEL_CHECK(control.wal_segment_bytes >= 1 << 20 && control.wal_segment_bytes <= 1 << 30);
    OGEL_CHECK((control.wal_segment_bytes & (control.wal_segment_bytes - 1)) == 0);
    OGEL_CHECK(strstr(text, "WARNING:") == NULL);
}

static void as_waldump(const char *text)
{
    uint64_t a, b;

    if (pgdata_wal_stats_parse(text, &a, &b))
        OGEL_CHECK(a <= b && strstr(text, "WAL statistics between ") != NULL);
    if (pgdata_wal_record_parse(text, &a, &b))
        OGEL_CHECK(strstr(text, ", lsn: ") != NULL && strstr(text, ", prev ") != NULL);
}

static void as_label(const char *text)
{
    struct position start;

    if (pgdata_backup_label_parse(text, &start))
        OGEL_CHECK(start.timeline > 0);
}

static void as_pid_file(char *text)
{
    long first = strtol(text, NULL, 10);
    struct postmaster_file file;

    postmaster_file_parse(text, &file);
    /* never another process than the file names */
    OGEL_CHECK(file.pid == 0 || file.pid == first);
    OGEL_CHECK(file.shm_id >= -1 && file.start_time >= 0);
    OGEL_CHECK(strlen(file.status) < sizeof file.status);
}

static void as_data_id(const char *text)
{
    struct err err = {0};
    uint64_t id, again;

    disk_make();
    disk_put("ogel_data_id", text, strlen(text));
    if (pgdata_id_read(DISK_DIRECTORY, &id, &err) < 0) {
        OGEL_CHECK(id == 0 && err.text[0] != '\0');
    } else {
        OGEL_CHECK(id != 0);
        OGEL_CHECK(pgdata_id_write(DISK_DIRECTORY, id, &err) == 0);
        OGEL_CHECK(pgdata_id_read(DISK_DIRECTORY, &again, &err) == 0 && again == id);
    }
    disk_remove();
}

/* What was taken out once is not found again. */
static void as_auto_conf(const char *text)
{
    char removed[256];
    struct err err = {0};

    disk_make();
    disk_put("postgresql.auto.conf", text, strlen(text));
    OGEL_CHECK(pgdata_auto_conf_strip(DISK_DIRECTORY, removed, sizeof removed, &err) == 0);
    OGEL_CHECK(pgdata_auto_conf_strip(DISK_DIRECTORY, removed, sizeof removed, &err) == 0);
    OGEL_CHECK(removed[0] == '\0');
    disk_remove();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = xstrndup((const char *)data + 1, size - 1);
    switch (data[0] % 6) {
    case 0: as_control(text); break;
    case 1: as_waldump(text); break;
    case 2: as_label(text); break;
    case 3: as_pid_file(text); break;
    case 4: as_data_id(text); break;
    default: as_auto_conf(text); break;
    }
    free(text);
    return 0;
}
