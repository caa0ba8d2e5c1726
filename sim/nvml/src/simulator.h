/* What the simulator's files share: the state that all processes map, and the functions between files. */
#ifndef SIMULATOR_H
#define SIMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nvml_abi.h"
#include "nvmlsim.h"

#define EXPORT __attribute__((visibility("default")))

enum {
    MAX_GPUS = 32, /* the kernel module's mig-minors name 32 GPUs, 15 GPU instances, 8 compute instances */
    MAX_GPU_INSTANCES = 15,
    MAX_COMPUTE_INSTANCES = 8,
    MAX_STARTS = 8,
    MAX_PROFILES = 18,
    MAX_PROCESSES = 512,
    MAX_FAULTS = 64,
    MAX_EVENTS = 256,
    MAX_ENTRY_NAME = 64,
    MAX_PATH = 1024,
    STATE_MAGIC = 0x4d534d4e, /* "NMSM" */
    STATE_VERSION = 3,
};

typedef enum { AMPERE = 7, ADA = 8, HOPPER = 9, BLACKWELL = 10 } Architecture; /* NVML's numbers */

typedef struct {
    unsigned decoders, encoders, jpegs, ofas;
} Engines;

typedef struct {
    unsigned profile_enum, id;
    const char *name; /* without NVML's "MIG " */
    unsigned compute_slices, size, max_instances, memory_mib, multiprocessors, copy_engines;
    Engines engines;
    unsigned start_count, starts[MAX_STARTS];
} Profile;

typedef struct {
    const char *key, *product;
    unsigned pci_device_id, pci_subsystem_id, memory_mib;
    Architecture architecture;
    int capability_major, capability_minor;
    unsigned memory_slots, compute_slices, max_instances;
    Engines engines; /* of the whole card */
    unsigned profile_count;
    Profile profiles[MAX_PROFILES];
} Card;

/* Generated from cards/ at build time. */
extern const Card sim_cards[];
extern const unsigned sim_card_count;
extern const uint64_t sim_cards_digest;

typedef struct {
    uint32_t used, profile, start, slices; /* profile is the compute instance profile's id */
} ComputeInstance;

typedef struct {
    uint32_t used, profile, start; /* profile is an index into the card's profiles */
    uint32_t ecc_sram;             /* uncorrectable errors since it was created */
    ComputeInstance compute[MAX_COMPUTE_INSTANCES];
} GpuInstance;

typedef struct {
    uint32_t card, minor, lost;
    uint32_t domain, bus, device, function;
    uint32_t mig_current, mig_pending;
    uint32_t ecc_dram; /* uncorrectable errors since the last reset */
    uint32_t remap_pending, remap_failed, recovery_action;
    uint64_t reset_at_ms; /* of the clock that counts from the host's boot */
    char uuid[48];
    GpuInstance instances[MAX_GPU_INSTANCES]; /* by GPU instance id */
} Gpu;

typedef struct {
    uint32_t used, pid, gpu, gpu_instance, compute_instance;
    uint64_t memory;
} Process;

typedef struct {
    char entry[MAX_ENTRY_NAME]; /* empty: a free place */
    uint32_t latency_us, fail_in, fail_code, hung, waiting;
    uint32_t hung_turn; /* counts how often it was hung: callers killed while they waited are not in the next count */
} Fault;

typedef struct {
    uint64_t type, data;
    uint32_t gpu, gpu_instance, compute_instance;
} Event;

typedef struct {
    uint32_t magic, version;
    uint64_t size, cards_digest;
    char root[MAX_PATH];
    char driver_version[64];
    uint32_t privileged, capability_major;
    uint32_t fault_sequence, event_sequence; /* futex words; event_sequence counts the events ever injected */
    uint32_t gpu_count;
    uint64_t log_sequence; /* of the next record of the kernel's log */
    Gpu gpus[MAX_GPUS];
    Process processes[MAX_PROCESSES];
    Fault faults[MAX_FAULTS];
    Event events[MAX_EVENTS];
    nvmlSimCounters counters;
} State;

struct nvmlSimHandle {
    int descriptor;
    pid_t owner; /* a forked child must not share its parent's file lock */
    State *state;
};

/* What a handle means, looked up in the state. */
typedef struct {
    Gpu *gpu;
    GpuInstance *instance;
    ComputeInstance *compute;
    unsigned slot, gpu_instance, compute_instance;
} Target;

/* store.c: the file, its mapping and its locks. The process lock is taken before the file lock. */
nvmlReturn_t store_create(const char *path, const char *root, const char *driver_version);
nvmlReturn_t store_open(const char *path, nvmlSimHandle **handle);
void store_close(nvmlSimHandle *handle);
void process_lock(void);
void process_unlock(void);
nvmlReturn_t file_lock(nvmlSimHandle *handle);
void file_unlock(nvmlSimHandle *handle);

/* session.c: every exported NVML function is one ANSWER(body); body runs under both locks. */
typedef struct {
    State *state;
    nvmlReturn_t answer;
} Call;

Call call_begin(const char *entry);
nvmlReturn_t call_end(Call *call);
nvmlReturn_t session_lock(State **state);
void session_unlock(void);
nvmlReturn_t copy_text(const char *text, char *buffer, unsigned length);

#define ANSWER(body)                                                                                         \
    Call call = call_begin(__func__);                                                                        \
    State *state = call.state;                                                                               \
    if (call.answer == NVML_SUCCESS)                                                                         \
        call.answer = (body);                                                                                \
    return call_end(&call)

/* faults.c */
Fault *fault_find(State *state, const char *entry);
nvmlReturn_t fault_for(State *state, const char *entry, Fault **fault);
nvmlReturn_t fault_apply(Call *call, Fault *fault);
void wait_for_change(uint32_t *word, uint32_t seen, unsigned milliseconds);
void announce_change(uint32_t *word);

/* handles.c */
nvmlDevice_t device_handle(unsigned slot);
nvmlDevice_t mig_handle(unsigned slot, unsigned gpu_instance, unsigned compute_instance);
nvmlGpuInstance_t gpu_instance_handle(unsigned slot, unsigned gpu_instance);
nvmlComputeInstance_t compute_instance_handle(unsigned slot, unsigned gpu_instance, unsigned compute_instance);
nvmlReturn_t find_gpu(State *state, nvmlDevice_t handle, Target *target);
nvmlReturn_t find_mig(State *state, nvmlDevice_t handle, Target *target);
nvmlReturn_t find_either(State *state, nvmlDevice_t handle, Target *target);
nvmlReturn_t find_gpu_instance(State *state, nvmlGpuInstance_t handle, Target *target);
nvmlReturn_t find_compute_instance(State *state, nvmlComputeInstance_t handle, Target *target);
nvmlReturn_t find_uuid(State *state, const char *uuid, Target *target);
void mig_uuid(const Gpu *gpu, unsigned gpu_instance, unsigned compute_instance, char *text);

/* devices.c */
unsigned slot_of_index(const State *state, unsigned index);

/* placements.c */
const Card *card_of(const Gpu *gpu);
const Profile *profile_of(const Target *target);
const Profile *profile_by_id(const Card *card, unsigned id);
const Profile *profile_by_enum(const Card *card, unsigned profile_enum);
bool is_legal_start(const Profile *profile, unsigned start);
bool fits(const Gpu *gpu, const Profile *profile, unsigned start);
unsigned remaining_capacity(const Gpu *gpu, const Profile *profile);
int free_instance_id(const Gpu *gpu, const Profile *profile);
bool has_instances(const Gpu *gpu);

/* mode.c */
nvmlReturn_t has_mig(const Gpu *gpu);
nvmlReturn_t require_mig(const Gpu *gpu);
void settle_after_reset(Gpu *gpu);

/* compute.c */
void compute_name(const Profile *profile, unsigned slices, char *text, size_t size);
unsigned compute_multiprocessors(const Card *card, const Profile *profile, unsigned slices);

/* processes.c */
bool has_processes(const State *state, unsigned slot, int gpu_instance, int compute_instance);
uint64_t memory_in_use(const State *state, const Target *target);
void forget_processes(State *state, int slot);

/* health.c */
uint64_t milliseconds_since_boot(void);
void health_after_reset(Gpu *gpu);

/* kernel_log.c */
void kernel_log_xid(State *state, const Target *target, uint64_t xid);
void kernel_log_restart(State *state);

/* procfs.c: false means that the operating system said no. */
void procfs_follow_environment(bool follow);
bool procfs_install(const State *state);
bool procfs_add(const State *state, const Target *target);
void procfs_remove(const State *state, const Target *target);
void procfs_clear_gpu(const State *state, const Gpu *gpu);

#endif
