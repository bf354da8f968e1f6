/* An HTTP server and client without a network, in place of base/http_server.h and
 * base/http_client.h: the handlers of a daemon get requests made of any bytes, and the answers to
 * the calls they make are made of any bytes too. Each request is held to be answered exactly once.
 */
#ifndef OGEL_TESTS_FUZZ_FAKE_HTTP_H
#define OGEL_TESTS_FUZZ_FAKE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sends one request, read off *DATA, which moves behind it: a byte chooses the route of the server
 * that was started last, one the token's role; then lines with the values of the path, the query
 * and the value of every header; then the body, up to a byte of zero. */
void fake_http_request(const uint8_t **data, size_t *size);

/* Answers the calls under way, in the order of their making, each with a status of *DATA and the
 * bytes up to one of zero; those that are made meanwhile too, while there is data. */
void fake_http_answer_calls(const uint8_t **data, size_t *size);

/* Wakes requests that wait (DEADLINE: their time is up; else their client is gone) and ends
 * streams: afterwards none is under way. */
void fake_http_settle(bool deadline);

/* Forgets calls whose makers are gone. */
void fake_http_drop_calls(void);

#endif
