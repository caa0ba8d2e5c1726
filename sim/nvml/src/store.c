/* The state file: one mapping shared by all processes, one lock for every read and every change. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simulator.h"

/* flock belongs to the open file, so it does not keep two threads of one process apart: this mutex does. */
static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;

void process_lock(void)
{
    pthread_mutex_lock(&process_mutex);
}

void process_unlock(void)
{
    pthread_mutex_unlock(&process_mutex);
}

/* A child forked while another thread held the mutex would wait for ever. */
__attribute__((constructor)) static void survive_fork(void)
{
    pthread_atfork(process_lock, process_unlock, process_unlock);
}

/* Reading a mapping behind the end of its file is a SIGBUS, so the size is asked before every use. */
static nvmlReturn_t check(const nvmlSimHandle *handle)
{
    struct stat information;
    if (fstat(handle->descriptor, &information) != 0 || information.st_size < (off_t)(4 * sizeof(uint64_t)))
        return NVML_ERROR_DRIVER_NOT_LOADED;
    const State *state = handle->state;
    if (state->magic != STATE_MAGIC)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    if (state->version != STATE_VERSION || state->size != sizeof(State) || state->cards_digest != sim_cards_digest)
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    if (information.st_size < (off_t)sizeof(State))
        return NVML_ERROR_DRIVER_NOT_LOADED;
    return NVML_SUCCESS;
}

static bool own_descriptor(nvmlSimHandle *handle)
{
    if (handle->owner == getpid())
        return true;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", handle->descriptor);
    int fresh = open(path, O_RDWR | O_CLOEXEC);
    if (fresh < 0)
        return false;
    close(handle->descriptor);
    handle->descriptor = fresh;
    handle->owner = getpid();
    return true;
}

nvmlReturn_t file_lock(nvmlSimHandle *handle)
{
    if (!own_descriptor(handle))
        return NVML_ERROR_OPERATING_SYSTEM;
    while (flock(handle->descriptor, LOCK_EX) != 0)
        if (errno != EINTR)
            return NVML_ERROR_OPERATING_SYSTEM;
    nvmlReturn_t answer = check(handle);
    if (answer != NVML_SUCCESS)
        file_unlock(handle);
    return answer;
}

void file_unlock(nvmlSimHandle *handle)
{
    flock(handle->descriptor, LOCK_UN);
}

nvmlReturn_t store_open(const char *path, nvmlSimHandle **handle)
{
    nvmlSimHandle *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return NVML_ERROR_MEMORY;
    opened->owner = getpid();
    opened->descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (opened->descriptor < 0) {
        nvmlReturn_t answer = errno == EACCES ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_DRIVER_NOT_LOADED;
        free(opened);
        return answer;
    }
    void *mapping = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, opened->descriptor, 0);
    opened->state = mapping == MAP_FAILED ? NULL : mapping;
    nvmlReturn_t answer = opened->state == NULL ? NVML_ERROR_MEMORY : file_lock(opened);
    if (answer != NVML_SUCCESS) {
        store_close(opened);
        return answer;
    }
    file_unlock(opened);
    *handle = opened;
    return NVML_SUCCESS;
}

void store_close(nvmlSimHandle *handle)
{
    if (handle->state != NULL)
        munmap(handle->state, sizeof(State));
    close(handle->descriptor);
    free(handle);
}

static void fill(State *state, const char *root, const char *driver_version)
{
    *state = (State){
        .magic = STATE_MAGIC,
        .version = STATE_VERSION,
        .size = sizeof(State),
        .cards_digest = sim_cards_digest,
        .privileged = 1,
        .capability_major = 236, /* the kernel hands out dynamic majors from 254 downwards */
    };
    snprintf(state->root, sizeof state->root, "%s", root);
    snprintf(state->driver_version, sizeof state->driver_version, "%s", driver_version);
}

/* The file appears whole, by rename: a process that still maps an older one keeps that. */
nvmlReturn_t store_create(const char *path, const char *root, const char *driver_version)
{
    char fresh[MAX_PATH + 16];
    if (strlen(path) >= MAX_PATH || strlen(root) >= MAX_PATH)
        return NVML_ERROR_INVALID_ARGUMENT;
    State *state = calloc(1, sizeof *state);
    if (state == NULL)
        return NVML_ERROR_MEMORY;
    fill(state, root, driver_version);
    snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid());
    int descriptor = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool written = descriptor >= 0 && write(descriptor, state, sizeof *state) == (ssize_t)sizeof *state;
    if (descriptor >= 0)
        close(descriptor);
    written = written && procfs_install(state) && rename(fresh, path) == 0;
    if (!written)
        unlink(fresh);
    free(state);
    return written ? NVML_SUCCESS : NVML_ERROR_OPERATING_SYSTEM;
}
