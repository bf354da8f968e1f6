/* A disk of the tests' own behind io_ops: one directory in memory, DISK_DIRECTORY, that fails,
 * shortens or cuts off the n-th call, and then shows every state in which a power cut could have
 * left it.
 *
 * What a power cut may leave: of each sector (512 bytes) any content it had since it was last known
 * to be synced, independent of its neighbours; of each file any length likewise; of what was done
 * to the directory (create, rename, unlink) any subset, in order, a rename being one step. A file's
 * sync that fails makes nothing durable and forgets that anything was to be written (as Linux
 * does): what a later one reports as done is not done for what was written before. */
#ifndef OGEL_TESTS_UNIT_FAULTY_DISK_H
#define OGEL_TESTS_UNIT_FAULTY_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define DISK_DIRECTORY "/simulated"

/* A new, empty disk, which io_ops use from now on; disk_remove() gives them the system's back. */
void disk_make(void);
void disk_remove(void);

enum disk_fault {
    DISK_FAIL,  /* the call does nothing and fails with ERRNUM */
    DISK_SHORT, /* a read or write does half */
    DISK_FULL,  /* from then on nothing can be allocated; a write does what fits */
    DISK_DIE,   /* the process dies: this call and all later ones do nothing */
};

/* Calls are counted anew, and the one after CALLS others meets the fault. */
void disk_fault_after(int calls, enum disk_fault fault, int errnum);
bool disk_fault_met(void);
/* While held, calls are not counted. */
void disk_fault_hold(bool hold);
/* As it is for the next process: no fault, no open files. */
void disk_next_process(void);

/* The whole disk as it is. States are freed, and loaded, in the reverse order of their saving. */
struct disk_state;
struct disk_state *disk_save(void);
void disk_load(const struct disk_state *state);
void disk_state_free(struct disk_state *state);

/* The disk becomes the INDEX-th of the states in which a power cut could have left STATE; false
 * when there are no more, or INDEX is LIMIT. Up to LIMIT of them come in full; of more there come
 * the oldest and the newest of everything, each single choice set against both, and some at random,
 * always the same. */
bool disk_power_cut(const struct disk_state *state, unsigned index, unsigned limit);

/* Outside of io_ops, and durable. NAME is without the directory. */
void disk_put(const char *name, const void *data, size_t len);
void disk_fill(const char *name, const void *data, size_t len); /* at the end of a file */
size_t disk_size(const char *name);                             /* 0 where there is none */
void disk_flip(const char *name, size_t bit);
void disk_cut(const char *name, size_t size);
void disk_set_mode(const char *name, mode_t mode); /* with the type */

#endif
