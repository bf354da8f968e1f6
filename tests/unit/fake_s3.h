/* As much of S3 as the store's backend needs, in memory, on loopback, with faults on request. */
#ifndef OGEL_TESTS_UNIT_FAKE_S3_H
#define OGEL_TESTS_UNIT_FAKE_S3_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_BUCKET "bucket"

enum fake_fault {
    FAULT_NONE,
    FAULT_SLOW_DOWN,   /* 503 with its XML */
    FAULT_500,         /* without a body */
    FAULT_CLOSE,       /* the connection ends without an answer */
    FAULT_CUT_BODY,    /* of an answer, in its middle */
    FAULT_CUT_HEADERS, /* after the first of them */
    FAULT_STALL,       /* no answer until the client gives up */
    FAULT_OTHER_ETAG,  /* no MD5: a server that encrypts */
    FAULT_NO_ETAG,
    FAULT_SPOILED,   /* a put is taken, and one byte of it lost its value */
    FAULT_SHORTENED, /* a put is taken, but for its last byte */
    FAULT_DENIED,    /* the signature does not match */
    FAULT_SKEWED,    /* clocks differ */
    FAULT_FULL,      /* no space left, as MinIO says it */
    FAULT_NO_BUCKET,
};

enum { FAKE_OBJECTS_MAX = 64, FAKE_PAGE = 2 };

struct fake_object {
    char key[256];
    char *data;
    size_t len;
};

struct fake_s3 {
    int listener, port;
    pthread_t thread;
    pthread_mutex_t lock;
    struct fake_object objects[FAKE_OBJECTS_MAX];
    int count;
    enum fake_fault fault;
    int fault_count;      /* requests that meet it; -1: all */
    enum fake_fault then; /* what all others meet */
    int requests;         /* seen so far */
    bool stop;
};

void fake_s3_start(struct fake_s3 *fake);
void fake_s3_stop(struct fake_s3 *fake);

/* The next COUNT requests meet FAULT; counts requests anew. */
void fake_s3_fault(struct fake_s3 *fake, enum fake_fault fault, int count);
/* The same, and all that come after them meet THEN. */
void fake_s3_faults(struct fake_s3 *fake, enum fake_fault fault, int count, enum fake_fault then);
int fake_s3_requests(struct fake_s3 *fake);

#endif
