#include "tests/unit/faulty_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io_ops.h"
#include "base/mem.h"

enum {
    SECTOR = 512,
    VERSIONS_MAX = 8,
    INODES_MAX = 8,
    NAMES_MAX = 8,
    NAME_SIZE = 48,
    STEPS_MAX = 32,
    FDS_MAX = 8,
    FD_FIRST = 1000, /* no descriptor of the system's */
    CHOICES_MAX = 4096,
    CHUNK_SECTORS = 128,
};

/* What it reads as, and all that may be on the disk, oldest first; one version: that is certain. */
struct sector {
    const uint8_t *now;
    const uint8_t *versions[VERSIONS_MAX];
    unsigned count;
    bool dirty; /* the next sync writes it */
};

struct inode {
    mode_t mode;
    off_t size;
    off_t sizes[VERSIONS_MAX];
    unsigned size_count;
    bool size_dirty;
    struct sector *sectors; /* of the greatest length it may have */
    size_t sector_count;
};

struct name {
    char text[NAME_SIZE]; /* "": free */
    int inode;
};

enum step_kind { STEP_LINK, STEP_UNLINK, STEP_RENAME };

/* Done to the directory since it was last certain as a whole. */
struct step {
    enum step_kind kind;
    char name[NAME_SIZE], to[NAME_SIZE];
    int inode;
};

struct disk_state {
    struct inode inodes[INODES_MAX];
    struct name now[NAMES_MAX], certain[NAMES_MAX];
    struct step steps[STEPS_MAX];
    int step_count;
    size_t arena_used;
};

enum { FD_FREE = -2, FD_DIRECTORY = -1 };

static struct disk_state disk;
static int fds[FDS_MAX]; /* inode */

static struct {
    int calls, after, errnum;
    enum disk_fault kind;
    bool met, dead, full, held;
} fault;

/* --- sectors' contents: written once, never changed ----------------------------------------- */

static uint8_t **chunks;
static size_t chunk_count;
static const uint8_t zeroes[SECTOR];

static uint8_t *new_content(const uint8_t *from)
{
    size_t chunk = disk.arena_used / CHUNK_SECTORS;
    uint8_t *content;

    if (chunk == chunk_count) {
        chunks = xreallocarray(chunks, chunk_count + 1, sizeof *chunks);
        chunks[chunk_count++] = xmalloc((size_t)CHUNK_SECTORS * SECTOR);
    }
    content = chunks[chunk] + disk.arena_used++ % CHUNK_SECTORS * SECTOR;
    memcpy(content, from, SECTOR);
    return content;
}

static void sector_write(struct sector *sector, size_t at, const uint8_t *data, size_t len)
{
    uint8_t *content = new_content(sector->now);

    memcpy(content + at, data, len);
    sector->now = content;
    sector->dirty = true;
    if (memcmp(content, sector->versions[sector->count - 1], SECTOR) == 0)
        return;
    OGEL_CHECK(sector->count < VERSIONS_MAX);
    sector->versions[sector->count++] = content;
}

static void inode_reach(struct inode *inode, off_t size)
{
    size_t count = ((size_t)size + SECTOR - 1) / SECTOR;

    if (count <= inode->sector_count)
        return;
    inode->sectors = xreallocarray(inode->sectors, count, sizeof *inode->sectors);
    for (size_t i = inode->sector_count; i < count; i++)
        inode->sectors[i] = (struct sector){.now = zeroes, .versions = {zeroes}, .count = 1};
    inode->sector_count = count;
}

static void inode_write(struct inode *inode, const uint8_t *data, size_t len, off_t offset)
{
    off_t end = offset + (off_t)len;

    inode_reach(inode, end);
    while (len > 0) {
        size_t at = (size_t)(offset % SECTOR), part = SECTOR - at < len ? SECTOR - at : len;

        sector_write(&inode->sectors[offset / SECTOR], at, data, part);
        data += part;
        offset += (off_t)part;
        len -= part;
    }
    if (end <= inode->size)
        return;
    inode->size = end;
    inode->size_dirty = true;
    OGEL_CHECK(inode->size_count < VERSIONS_MAX);
    inode->sizes[inode->size_count++] = end;
}

/* What is now there becomes certain; with FORGET, nothing does, and the next sync has nothing to
 * do.
 */
static void inode_sync(struct inode *inode, bool forget)
{
    for (size_t i = 0; i < inode->sector_count; i++) {
        struct sector *sector = &inode->sectors[i];

        if (sector->dirty && !forget) {
            sector->versions[0] = sector->now;
            sector->count = 1;
        }
        sector->dirty = false;
    }
    if (inode->size_dirty && !forget) {
        inode->sizes[0] = inode->size;
        inode->size_count = 1;
    }
    inode->size_dirty = false;
}

/* What lay behind the end is gone, also where the file grows again. */
static void inode_trim(struct inode *inode)
{
    size_t whole = (size_t)inode->size / SECTOR, rest = (size_t)inode->size % SECTOR;

    for (size_t i = whole; i < inode->sector_count; i++) {
        const uint8_t *content = zeroes;

        if (i == whole && rest > 0) {
            uint8_t *tail = new_content(inode->sectors[i].now);

            memset(tail + rest, 0, SECTOR - rest);
            content = tail;
        }
        inode->sectors[i] = (struct sector){.now = content, .versions = {content}, .count = 1};
    }
}

/* --- the directory -------------------------------------------------------------------------- */

static struct name *find(struct name names[NAMES_MAX], const char *text)
{
    for (int i = 0; i < NAMES_MAX; i++)
        if (strcmp(names[i].text, text) == 0)
            return &names[i];
    return NULL;
}

static void put_name(struct name names[NAMES_MAX], const char *text, int inode)
{
    struct name *name = find(names, text);

    if (name == NULL)
        name = find(names, "");
    OGEL_CHECK(name != NULL);
    memset(name, 0, sizeof *name);
    strncpy(name->text, text, NAME_SIZE - 1);
    name->inode = inode;
}

static void drop_name(struct name names[NAMES_MAX], const char *text)
{
    struct name *name = find(names, text);

    if (name != NULL)
        memset(name, 0, sizeof *name);
}

static void apply(struct name names[NAMES_MAX], const struct step *step)
{
    switch (step->kind) {
    case STEP_LINK: put_name(names, step->name, step->inode); break;
    case STEP_UNLINK: drop_name(names, step->name); break;
    case STEP_RENAME:
        drop_name(names, step->name);
        put_name(names, step->to, step->inode);
        break;
    }
}

static void take_step(enum step_kind kind, const char *name, const char *to, int inode)
{
    struct step *step = &disk.steps[disk.step_count];

    OGEL_CHECK(disk.step_count < STEPS_MAX);
    *step = (struct step){.kind = kind, .inode = inode};
    strncpy(step->name, name, NAME_SIZE - 1);
    strncpy(step->to, to, NAME_SIZE - 1);
    apply(disk.now, step);
    disk.step_count++;
}

static void directory_sync(void)
{
    memcpy(disk.certain, disk.now, sizeof disk.certain);
    disk.step_count = 0;
}

static int new_inode(mode_t mode)
{
    for (int i = 0; i < INODES_MAX; i++) {
        bool named = false;

        for (int k = 0; k < NAMES_MAX; k++)
            named = named || (disk.now[k].text[0] != '\0' && disk.now[k].inode == i) ||
                    (disk.certain[k].text[0] != '\0' && disk.certain[k].inode == i);
        for (int k = 0; k < disk.step_count; k++)
            named = named || disk.steps[k].inode == i;
        for (int k = 0; k < FDS_MAX; k++)
            named = named || fds[k] == i;
        if (named)
            continue;
        free(disk.inodes[i].sectors);
        disk.inodes[i] = (struct inode){.mode = S_IFREG | mode, .size_count = 1};
        return i;
    }
    die("the simulated disk has too few inodes");
}

/* --- the calls ------------------------------------------------------------------------------ */

enum fate { PASS, HALF, FAIL };

static enum fate meet(void)
{
    if (fault.dead) {
        errno = EIO;
        return FAIL;
    }
    if (fault.held || fault.calls++ != fault.after)
        return PASS;
    fault.met = true;
    switch (fault.kind) {
    case DISK_SHORT: return HALF;
    case DISK_FULL: fault.full = true; return PASS;
    case DISK_DIE:
        fault.dead = true;
        errno = EIO;
        return FAIL;
    case DISK_FAIL: break;
    }
    errno = fault.errnum;
    return FAIL;
}

static struct inode *inode_of(int fd)
{
    OGEL_CHECK(fd >= FD_FIRST && fd < FD_FIRST + FDS_MAX && fds[fd - FD_FIRST] >= 0);
    return &disk.inodes[fds[fd - FD_FIRST]];
}

static int new_fd(int inode)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (fds[i] == FD_FREE) {
            fds[i] = inode;
            return FD_FIRST + i;
        }
    }
    die("descriptors of the simulated disk are left open");
}

static const char *name_in(const char *path)
{
    size_t len = strlen(DISK_DIRECTORY);

    OGEL_CHECK(strncmp(path, DISK_DIRECTORY "/", len + 1) == 0);
    OGEL_CHECK(path[len + 1] != '\0' && strchr(path + len + 1, '/') == NULL);
    return path + len + 1;
}

static int disk_open(const char *path, int flags, mode_t mode)
{
    const struct name *name;
    int inode;

    if (meet() == FAIL)
        return -1;
    if (strcmp(path, DISK_DIRECTORY) == 0)
        return new_fd(FD_DIRECTORY);
    name = find(disk.now, name_in(path));
    if (name != NULL) {
        if ((flags & O_EXCL) == 0)
            return new_fd(name->inode);
        errno = EEXIST;
        return -1;
    }
    if ((flags & O_CREAT) == 0 || fault.full) {
        errno = fault.full && (flags & O_CREAT) != 0 ? ENOSPC : ENOENT;
        return -1;
    }
    inode = new_inode(mode);
    take_step(STEP_LINK, name_in(path), "", inode);
    return new_fd(inode);
}

static int disk_fstat(int fd, struct stat *st)
{
    if (meet() == FAIL)
        return -1;
    memset(st, 0, sizeof *st);
    st->st_mode = inode_of(fd)->mode;
    st->st_size = inode_of(fd)->size;
    return 0;
}

static int disk_fchmod(int fd, mode_t mode)
{
    if (meet() == FAIL)
        return -1;
    inode_of(fd)->mode = S_IFREG | mode;
    return 0;
}

static ssize_t disk_pread(int fd, void *buf, size_t len, off_t offset)
{
    const struct inode *inode = inode_of(fd);
    enum fate fate = meet();
    size_t left = offset < inode->size ? (size_t)(inode->size - offset) : 0, done = 0;

    if (fate == FAIL)
        return -1;
    len = len < left ? len : left;
    if (fate == HALF && len > 1)
        len /= 2;
    while (done < len) {
        size_t at = (size_t)(offset % SECTOR);
        size_t part = SECTOR - at < len - done ? SECTOR - at : len - done;

        memcpy((char *)buf + done, inode->sectors[offset / SECTOR].now + at, part);
        done += part;
        offset += (off_t)part;
    }
    return (ssize_t)done;
}

static ssize_t disk_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    struct inode *inode = inode_of(fd);
    enum fate fate = meet();

    if (fate == FAIL)
        return -1;
    if (fate == HALF && len > 1)
        len /= 2;
    if (fault.full && offset + (off_t)len > inode->size) {
        /* the last sector is there as a whole */
        off_t room = (inode->size + SECTOR - 1) / SECTOR * SECTOR - offset;

        if (room <= 0) {
            errno = ENOSPC;
            return -1;
        }
        len = len < (size_t)room ? len : (size_t)room;
    }
    inode_write(inode, buf, len, offset);
    return (ssize_t)len;
}

static int disk_fsync(int fd)
{
    enum fate fate = meet();
    bool directory = fd >= FD_FIRST && fd < FD_FIRST + FDS_MAX &&
                     fds[fd - FD_FIRST] == FD_DIRECTORY;

    if (fate == FAIL && fault.dead)
        return -1;
    if (!directory)
        inode_sync(inode_of(fd), fate == FAIL);
    else if (fate != FAIL)
        directory_sync();
    return fate == FAIL ? -1 : 0;
}

static int disk_rename(const char *from, const char *to)
{
    const struct name *name = find(disk.now, name_in(from));

    if (meet() == FAIL)
        return -1;
    if (name == NULL) {
        errno = ENOENT;
        return -1;
    }
    take_step(STEP_RENAME, name_in(from), name_in(to), name->inode);
    return 0;
}

static int disk_unlink(const char *path)
{
    const struct name *name = find(disk.now, name_in(path));

    if (meet() == FAIL)
        return -1;
    if (name == NULL) {
        errno = ENOENT;
        return -1;
    }
    take_step(STEP_UNLINK, name_in(path), "", name->inode);
    return 0;
}

/* The descriptor is gone in any case, as in the kernel. */
static int disk_close(int fd)
{
    OGEL_CHECK(fd >= FD_FIRST && fd < FD_FIRST + FDS_MAX && fds[fd - FD_FIRST] != FD_FREE);
    fds[fd - FD_FIRST] = FD_FREE;
    return meet() == FAIL ? -1 : 0;
}

static const struct io_ops disk_ops = {
    .open = disk_open,
    .fstat = disk_fstat,
    .fchmod = disk_fchmod,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .fsync = disk_fsync,
    .fdatasync = disk_fsync,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .close = disk_close,
};

/* --- the disk as a whole -------------------------------------------------------------------- */

static void empty(void)
{
    for (int i = 0; i < INODES_MAX; i++)
        free(disk.inodes[i].sectors);
    memset(&disk, 0, sizeof disk);
    disk_next_process();
}

void disk_make(void)
{
    empty();
    io_ops = &disk_ops;
}

void disk_remove(void)
{
    empty();
    for (size_t i = 0; i < chunk_count; i++)
        free(chunks[i]);
    free(chunks);
    chunks = NULL;
    chunk_count = 0;
    io_ops = &io_ops_system;
}

void disk_fault_after(int calls, enum disk_fault kind, int errnum)
{
    memset(&fault, 0, sizeof fault);
    fault.after = calls;
    fault.kind = kind;
    fault.errnum = errnum;
}

bool disk_fault_met(void)
{
    return fault.met;
}

void disk_fault_hold(bool hold)
{
    fault.held = hold;
}

void disk_next_process(void)
{
    disk_fault_after(-1, DISK_FAIL, 0);
    for (int i = 0; i < FDS_MAX; i++)
        fds[i] = FD_FREE;
}

static void copy_state(struct disk_state *to, const struct disk_state *from)
{
    for (int i = 0; i < INODES_MAX; i++)
        free(to->inodes[i].sectors);
    *to = *from;
    for (int i = 0; i < INODES_MAX; i++) {
        struct inode *inode = &to->inodes[i];
        size_t size = inode->sector_count * sizeof *inode->sectors;

        inode->sectors = size == 0 ? NULL : xmalloc(size);
        if (size > 0)
            memcpy(inode->sectors, from->inodes[i].sectors, size);
    }
}

struct disk_state *disk_save(void)
{
    struct disk_state *state = xcalloc(1, sizeof *state);

    copy_state(state, &disk);
    return state;
}

void disk_load(const struct disk_state *state)
{
    copy_state(&disk, state);
    disk_next_process();
}

void disk_state_free(struct disk_state *state)
{
    for (int i = 0; i < INODES_MAX; i++)
        free(state->inodes[i].sectors);
    free(state);
}

/* --- a power cut ---------------------------------------------------------------------------- */

/* How many ways each open question can have gone. The order is that of choose(). */
static size_t questions(unsigned ways[CHOICES_MAX])
{
    size_t count = 0;

    for (int i = 0; i < disk.step_count; i++)
        ways[count++] = 2;
    for (int i = 0; i < INODES_MAX; i++) {
        const struct inode *inode = &disk.inodes[i];

        if (inode->size_count > 1)
            ways[count++] = inode->size_count;
        for (size_t k = 0; k < inode->sector_count; k++) {
            OGEL_CHECK(count < CHOICES_MAX);
            if (inode->sectors[k].count > 1)
                ways[count++] = inode->sectors[k].count;
        }
    }
    return count;
}

/* The disk after the cut, each question having gone as ANSWERS say. */
static void choose(const unsigned answers[CHOICES_MAX])
{
    size_t at = 0;

    for (int i = 0; i < disk.step_count; i++)
        if (answers[at++] == 1)
            apply(disk.certain, &disk.steps[i]);
    disk.step_count = 0;
    memcpy(disk.now, disk.certain, sizeof disk.now);
    for (int i = 0; i < INODES_MAX; i++) {
        struct inode *inode = &disk.inodes[i];

        inode->size = inode->sizes[inode->size_count > 1 ? answers[at++] : 0];
        inode->sizes[0] = inode->size;
        inode->size_count = 1;
        inode->size_dirty = false;
        for (size_t k = 0; k < inode->sector_count; k++) {
            struct sector *sector = &inode->sectors[k];

            sector->now = sector->versions[sector->count > 1 ? answers[at++] : 0];
            sector->versions[0] = sector->now;
            sector->count = 1;
            sector->dirty = false;
        }
        inode_trim(inode);
    }
}

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* One of too many: all oldest, all newest, each single one against both, then at random. */
static void sample(unsigned index, const unsigned ways[CHOICES_MAX], size_t count,
                   unsigned answers[CHOICES_MAX])
{
    bool single = index >= 2 && index - 2 < 2 * count;
    bool newest = index == 1 || (single && index % 2 == 1);

    for (size_t i = 0; i < count; i++) {
        answers[i] = newest ? ways[i] - 1 : 0;
        if (index - 2 >= 2 * count && index >= 2)
            answers[i] = (unsigned)(mix(index * (uint64_t)CHOICES_MAX + i) % ways[i]);
    }
    if (single)
        answers[(index - 2) / 2] = newest ? 0 : ways[(index - 2) / 2] - 1;
}

bool disk_power_cut(const struct disk_state *state, unsigned index, unsigned limit)
{
    static unsigned ways[CHOICES_MAX], answers[CHOICES_MAX];
    uint64_t total = 1, rest = index;
    size_t count;

    disk_load(state);
    count = questions(ways);
    for (size_t i = 0; i < count && total <= limit; i++)
        total *= ways[i];
    if (index >= limit || index >= total)
        return false;
    if (total > limit) {
        sample(index, ways, count, answers);
    } else {
        for (size_t i = 0; i < count; i++) {
            answers[i] = (unsigned)(rest % ways[i]);
            rest /= ways[i];
        }
    }
    choose(answers);
    return true;
}

/* --- from outside --------------------------------------------------------------------------- */

static struct inode *named(const char *name)
{
    const struct name *found = find(disk.now, name);

    return found == NULL ? NULL : &disk.inodes[found->inode];
}

void disk_put(const char *name, const void *data, size_t len)
{
    int inode = new_inode(0600);

    inode_write(&disk.inodes[inode], data, len, 0);
    inode_sync(&disk.inodes[inode], false);
    put_name(disk.now, name, inode);
    put_name(disk.certain, name, inode);
}

void disk_fill(const char *name, const void *data, size_t len)
{
    struct inode *inode = named(name);

    inode_write(inode, data, len, inode->size);
    inode_sync(inode, false);
}

size_t disk_size(const char *name)
{
    const struct inode *inode = named(name);

    return inode == NULL ? 0 : (size_t)inode->size;
}

void disk_flip(const char *name, size_t bit)
{
    struct sector *sector = &named(name)->sectors[bit / 8 / SECTOR];
    uint8_t *content = new_content(sector->now);

    content[bit / 8 % SECTOR] ^= (uint8_t)(1u << bit % 8);
    *sector = (struct sector){.now = content, .versions = {content}, .count = 1};
}

void disk_cut(const char *name, size_t size)
{
    struct inode *inode = named(name);

    inode->size = inode->sizes[0] = (off_t)size;
    inode->size_count = 1;
    inode_trim(inode);
}

void disk_set_mode(const char *name, mode_t mode)
{
    named(name)->mode = mode;
}
