/* What the parts of projector._native share. Limited API: one build serves Python 3.11 and later. */

#ifndef PROJECTOR_NATIVE_H
#define PROJECTOR_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef const uint8_t *Bytes;

/* A growing buffer; of malloc, so that it can grow without the interpreter. */
typedef struct {
    uint8_t *data;
    size_t size, room;
} Buffer;

int buffer_grow(Buffer *buffer, size_t more); /* -1: no memory */
void buffer_free(Buffer *buffer);

static inline int
buffer_reserve(Buffer *buffer, size_t more)
{
    return buffer->room - buffer->size >= more ? 0 : buffer_grow(buffer, more);
}

static inline int
buffer_put(Buffer *buffer, const void *data, size_t size)
{
    if (buffer_reserve(buffer, size) < 0)
        return -1;
    if (size)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    return 0;
}

static inline int
buffer_put_byte(Buffer *buffer, uint8_t byte)
{
    if (buffer_reserve(buffer, 1) < 0)
        return -1;
    buffer->data[buffer->size++] = byte;
    return 0;
}

/* Rows of a result, each checked when it came: length-encoded columns that fill it exactly. */
typedef struct {
    PyObject_HEAD
    Buffer bytes;    /* the rows, one behind the other */
    Buffer ends;     /* where each ends: size_t */
    size_t columns;
    Buffer definitions; /* five bytes a column: character set, type, flags */
    PyObject *promises; /* whatever Python sets; None at first */
} Rows;

extern PyTypeObject *Rows_Type;

static inline size_t
rows_count(const Rows *rows)
{
    return rows->ends.size / sizeof(size_t);
}

static inline size_t
rows_end(const Rows *rows, size_t index)
{
    size_t end;
    memcpy(&end, rows->ends.data + index * sizeof(size_t), sizeof(size_t));
    return end;
}

static inline size_t
rows_start(const Rows *rows, size_t index)
{
    return index ? rows_end(rows, index - 1) : 0;
}

/* A column of a checked row: gives what follows; `*value` is NULL for NULL. */
static inline Bytes
next_column(Bytes at, Bytes *value, size_t *size)
{
    uint64_t length = *at++;
    unsigned bytes;

    if (length == 251) {
        *value = NULL;
        *size = 0;
        return at;
    }
    if (length > 251) {
        bytes = length == 252 ? 2 : length == 253 ? 3 : 8;
        length = 0;
        for (unsigned i = 0; i < bytes; i++)
            length |= (uint64_t)at[i] << (8 * i);
        at += bytes;
    }
    *value = at;
    *size = (size_t)length;
    return at + length;
}

/* What a writer of a value says. ASK: only the Python that it stands for knows. */
typedef enum { FAILED = -1, ASK = 0, WRITTEN = 1 } Outcome;

typedef Outcome (*Writer)(Buffer *out, Bytes value, size_t size);

Writer writer_named(const char *name); /* NULL: there is none */
int is_utf8(Bytes at, size_t size);

Outcome write_json(Buffer *out, Bytes value, size_t size);
Outcome write_trusted_json(Buffer *out, Bytes value, size_t size);

typedef struct Decoder Decoder; /* of the rows of one table map */

extern PyTypeObject *Decoder_Type;

PyObject *decoder_decode(const Decoder *self, int kind, Bytes at, Bytes end, size_t *count);

int results_ready(PyObject *module);
int rows_ready(PyObject *module);
int scan_ready(PyObject *module);
int encoder_ready(PyObject *module);

#endif
