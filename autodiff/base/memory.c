/* Where memory comes from: the default allocator, the arena and the growing list. */
#include "autodiff/base/base.h"

#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* From so many bytes on, memory is asked for in huge pages, where the system has them: the first to write to it waits for
 * one fault where there were 512. */
enum { huge_page = 2 << 20, huge_bytes = 2 * huge_page };

static void *default_allocate(void *user, size_t size, size_t alignment) {
    (void)user;
    const bool is_huge = size >= huge_bytes;
    if (is_huge && alignment < huge_page) alignment = huge_page;
    if (alignment <= _Alignof(max_align_t)) return malloc(size);
    if (size > SIZE_MAX - alignment) return NULL;
    size = (size + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc(alignment, size);
#ifdef MADV_HUGEPAGE
    if (memory && is_huge) (void)madvise(memory, size, MADV_HUGEPAGE); /* if refused, the pages are small */
#endif
    return memory;
}

static void default_release(void *user, void *memory, size_t size) {
    (void)user;
    (void)size;
    free(memory);
}

const ad_allocator *ad_allocator_default(void) {
    static const ad_allocator allocator = {default_allocate, default_release, NULL};
    return &allocator;
}

/* ---- arena ----------------------------------------------------------------------------------------------- */

typedef struct ad_arena_chunk {
    struct ad_arena_chunk *next;
    size_t size; /* of `data` */
    _Alignas(64) char data[];
} ad_arena_chunk;

enum { arena_alignment = 16, arena_chunk_bytes = 32 * 1024 };

void ad_arena_open(ad_arena *arena, const ad_allocator *allocator) { *arena = (ad_arena){.allocator = allocator}; }

void ad_arena_close(ad_arena *arena) {
    for (ad_arena_chunk *chunk = arena->first; chunk;) {
        ad_arena_chunk *next = chunk->next;
        ad_release(arena->allocator, chunk, sizeof *chunk + chunk->size);
        chunk = next;
    }
    *arena = (ad_arena){.allocator = arena->allocator};
}

/* Makes the chunk after the current one, big enough for `size`, the current one. */
static bool arena_advance(ad_arena *arena, size_t size) {
    ad_arena_chunk **link = arena->current ? &arena->current->next : &arena->first;
    if (!*link || (*link)->size < size) {
        size_t bytes = size > arena_chunk_bytes ? size : arena_chunk_bytes;
        ad_arena_chunk *chunk = ad_allocate(arena->allocator, sizeof *chunk + bytes, _Alignof(ad_arena_chunk));
        if (!chunk) return false;
        chunk->next = *link;
        chunk->size = bytes;
        *link = chunk;
        arena->bytes += sizeof *chunk + bytes;
    }
    if (arena->current) arena->before += arena->current->size;
    arena->current = *link;
    arena->used = 0;
    return true;
}

void *ad_arena_take(ad_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + arena_alignment - 1) / arena_alignment * arena_alignment;
    if (!arena->current || arena->current->size - arena->used < size)
        if (!arena_advance(arena, size)) return NULL;
    void *memory = arena->current->data + arena->used;
    arena->used += size;
    return memory;
}

char *ad_arena_text(ad_arena *arena, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = ad_arena_take(arena, size);
    if (copy) memcpy(copy, text, size);
    return copy;
}

void ad_arena_rewind(ad_arena *arena, uint64_t position) {
    if (!arena->first) return;
    if (position < arena->before) {
        arena->current = arena->first;
        arena->before = 0;
        while (position > arena->before + arena->current->size) {
            arena->before += arena->current->size;
            arena->current = arena->current->next;
        }
    }
    arena->used = (size_t)(position - arena->before);
}

/* ---- list ------------------------------------------------------------------------------------------------ */

bool ad_list_grow(ad_list *list, const ad_allocator *allocator, size_t more) {
    size_t room = list->room ? list->room * 2 : 64;
    while (room - list->count < more) room *= 2;
    uint32_t *item = ad_allocate(allocator, room * sizeof *item, _Alignof(uint32_t));
    if (!item) return false;
    if (list->count) memcpy(item, list->item, list->count * sizeof *item);
    ad_release(allocator, list->item, list->room * sizeof *item);
    list->item = item;
    list->room = room;
    return true;
}

void ad_list_free(ad_list *list, const ad_allocator *allocator) {
    ad_release(allocator, list->item, list->room * sizeof *list->item);
    *list = (ad_list){0};
}
