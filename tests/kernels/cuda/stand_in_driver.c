// A libcuda.so.1 without a GPU. The device's memory is the host's, a launch is counted and runs nothing, and a call that
// needs a context fails in a thread that has none, as a driver's does. tests/kernels/driver_run.py says what it is for.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500 };
enum { DEVICE_BYTES, PINNED_BYTES, WITHOUT_CONTEXT, LAUNCHES, COUNTERS };

static int64_t counters[COUNTERS], limits[2] = {INT64_MAX, INT64_MAX};
static int death, context;
static __thread void *stack[64];
static __thread int depth;

// For the test: what was counted, the most bytes of a kind of memory, and an error that every call gives from now on.
int64_t stand_in_count(int which) { return counters[which]; }
void stand_in_limit(int kind, int64_t bytes) { limits[kind] = bytes; }
void stand_in_die(int error) { death = error; }

static int refused(void) {
    if (death) return death;
    if (depth) return SUCCESS;
    counters[WITHOUT_CONTEXT]++;
    return INVALID_CONTEXT;
}

#define NEEDS_CONTEXT do { int error = refused(); if (error) return error; } while (0)

// The size stands before the memory.
static int take(int kind, size_t size, void **memory) {
    NEEDS_CONTEXT;
    if (counters[kind] + (int64_t)size > limits[kind]) return OUT_OF_MEMORY;
    size_t *block = calloc(1, size + 64);
    if (!block) return OUT_OF_MEMORY;
    *block = size;
    counters[kind] += (int64_t)size;
    *memory = (char *)block + 64;
    return SUCCESS;
}

static int give_back(int kind, void *memory) {
    NEEDS_CONTEXT;
    size_t *block = (size_t *)((char *)memory - 64);
    counters[kind] -= (int64_t)*block;
    free(block);
    return SUCCESS;
}

static int handle(void **made) {
    NEEDS_CONTEXT;
    *made = calloc(1, 8);
    return SUCCESS;
}

static int copied(void *to, const void *from, size_t size) {
    NEEDS_CONTEXT;
    memcpy(to, from, size);
    return SUCCESS;
}

int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "Stand-in GPU"); return SUCCESS; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 0x11, 16); return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    // Compute capability 9.0, of 132 multiprocessors.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : 1;
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **made, int device) { *made = &context; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return SUCCESS; }
int cuCtxGetCurrent(void **current) { *current = depth ? stack[depth - 1] : NULL; return SUCCESS; }
int cuCtxSetCurrent(void *made) { if (made) stack[depth ? depth - 1 : depth++] = made; return SUCCESS; }
int cuCtxPushCurrent_v2(void *made) { stack[depth++] = made; return SUCCESS; }
int cuCtxPopCurrent_v2(void **made) {
    if (!depth) return INVALID_CONTEXT;
    *made = stack[--depth];
    return SUCCESS;
}
int cuCtxGetDevice(int *device) { NEEDS_CONTEXT; *device = 0; return SUCCESS; }
int cuCtxGetDevice_v2(int *device, void *made) { *device = 0; return SUCCESS; }
int cuCtxSynchronize(void) { NEEDS_CONTEXT; return SUCCESS; }

int cuMemGetInfo_v2(size_t *available, size_t *total) {
    NEEDS_CONTEXT;
    *total = (size_t)80 << 30;
    *available = *total - (size_t)counters[DEVICE_BYTES];
    return SUCCESS;
}
int cuMemAlloc_v2(void **memory, size_t size) { return take(DEVICE_BYTES, size, memory); }
int cuMemFree_v2(void *memory) { return give_back(DEVICE_BYTES, memory); }
int cuMemHostAlloc(void **memory, size_t size, unsigned flags) { return take(PINNED_BYTES, size, memory); }
int cuMemFreeHost(void *memory) { return give_back(PINNED_BYTES, memory); }
int cuMemcpyHtoD_v2(void *to, const void *from, size_t size) { return copied(to, from, size); }
int cuMemcpyDtoH_v2(void *to, const void *from, size_t size) { return copied(to, from, size); }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *stream) { return copied(to, from, size); }
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *stream) { return copied(to, from, size); }

int cuStreamCreate(void **stream, unsigned flags) { return handle(stream); }
int cuStreamDestroy_v2(void *stream) { NEEDS_CONTEXT; free(stream); return SUCCESS; }
int cuStreamSynchronize(void *stream) { NEEDS_CONTEXT; return SUCCESS; }

int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    return handle(library);
}
int cuLibraryUnload(void *library) { NEEDS_CONTEXT; free(library); return SUCCESS; }
int cuLibraryGetKernel(void **kernel, void *library, const char *name) { return handle(kernel); }
int cuKernelGetLibrary(void **library, void *kernel) { *library = &context; return SUCCESS; }
int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) { *value = 1024; return SUCCESS; }
int cuLaunchKernelEx(const void *shape, void *kernel, void **arguments, void **more) {
    NEEDS_CONTEXT;
    counters[LAUNCHES]++;
    return SUCCESS;
}

int cuGetErrorName(int error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
        : error == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
        : error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}
int cuGetErrorString(int error, const char **text) { *text = "of the stand-in"; return SUCCESS; }

int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
    static void *here;
    char versioned[128];
    Dl_info info;
    if (!here && dladdr((void *)cuInit, &info)) here = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    *found = here ? dlsym(here, versioned) : NULL;
    if (here && !*found) *found = dlsym(here, name);
    if (status) *status = *found ? 0 : 1;
    return *found ? SUCCESS : NOT_FOUND;
}
int cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, found, version, flags, NULL);
}
