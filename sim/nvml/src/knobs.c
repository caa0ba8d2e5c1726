/* The nvmlSim* functions that change the simulated hardware; nvmlsim.h says what each does. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "simulator.h"

enum { EVENT_XID = 8 }; /* nvmlEventTypeXidCriticalError */

static nvmlReturn_t knob_begin(nvmlSimHandle *handle)
{
    if (handle == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    process_lock();
    nvmlReturn_t answer = file_lock(handle);
    if (answer != NVML_SUCCESS)
        process_unlock();
    return answer;
}

static nvmlReturn_t knob_end(nvmlSimHandle *handle, nvmlReturn_t answer)
{
    file_unlock(handle);
    process_unlock();
    return answer;
}

#define TURN(body)                                                                                           \
    nvmlReturn_t refused = knob_begin(handle);                                                               \
    if (refused != NVML_SUCCESS)                                                                             \
        return refused;                                                                                      \
    State *state = handle->state;                                                                            \
    return knob_end(handle, (body))

static nvmlReturn_t parse_bus_id(const char *text, Gpu *gpu)
{
    int end = 0;
    if (text == NULL ||
        sscanf(text, "%8x:%2x:%2x.%1x%n", &gpu->domain, &gpu->bus, &gpu->device, &gpu->function, &end) < 4)
        return NVML_ERROR_INVALID_ARGUMENT;
    return text[end] == '\0' ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

static bool clashes(const Gpu *one, const Gpu *other)
{
    bool same_bus = one->domain == other->domain && one->bus == other->bus && one->device == other->device &&
                    one->function == other->function;
    return same_bus || one->minor == other->minor || strcmp(one->uuid, other->uuid) == 0;
}

static nvmlReturn_t add_gpu(State *state, const char *card, const char *bus_id, unsigned minor, const char *uuid)
{
    Gpu gpu = {.minor = minor, .card = 0};
    nvmlReturn_t answer = parse_bus_id(bus_id, &gpu);
    if (answer != NVML_SUCCESS)
        return answer;
    while (card != NULL && gpu.card < sim_card_count && strcmp(sim_cards[gpu.card].key, card) != 0)
        gpu.card++;
    bool known = card != NULL && gpu.card < sim_card_count;
    if (!known || uuid == NULL || strlen(uuid) != NVML_UUID_TEXT_SIZE - 1 || minor >= MAX_GPUS)
        return NVML_ERROR_INVALID_ARGUMENT;
    strcpy(gpu.uuid, uuid);
    health_after_reset(&gpu);
    for (unsigned slot = 0; slot < state->gpu_count; slot++)
        if (clashes(&gpu, &state->gpus[slot]))
            return NVML_ERROR_IN_USE;
    if (state->gpu_count == MAX_GPUS)
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    state->gpus[state->gpu_count++] = gpu;
    return NVML_SUCCESS;
}

static nvmlReturn_t set_latency(State *state, const char *entry, unsigned microseconds)
{
    Fault *fault;
    nvmlReturn_t answer = fault_for(state, entry, &fault);
    if (answer == NVML_SUCCESS)
        fault->latency_us = microseconds;
    return answer;
}

static nvmlReturn_t fail_nth(State *state, const char *entry, unsigned nth, int code)
{
    Fault *fault;
    nvmlReturn_t answer = code <= 0 ? NVML_ERROR_INVALID_ARGUMENT : fault_for(state, entry, &fault);
    if (answer == NVML_SUCCESS) {
        fault->fail_in = nth;
        fault->fail_code = (uint32_t)code;
    }
    return answer;
}

static nvmlReturn_t set_hung(State *state, const char *entry, unsigned hung)
{
    Fault *fault;
    nvmlReturn_t answer = fault_for(state, entry, &fault);
    if (answer == NVML_SUCCESS) {
        if (hung != 0 && !fault->hung) {
            fault->hung_turn++;
            fault->waiting = 0;
        }
        fault->hung = hung != 0;
        announce_change(&state->fault_sequence);
    }
    return answer;
}

static nvmlReturn_t hung_calls(State *state, const char *entry, unsigned *count)
{
    Fault *fault = entry == NULL ? NULL : fault_find(state, entry);
    *count = fault == NULL ? 0 : fault->waiting;
    return NVML_SUCCESS;
}

static Process process_on(const Target *target, unsigned pid, uint64_t memory)
{
    bool slice = target->compute != NULL;
    return (Process){
        .used = 1,
        .pid = pid,
        .gpu = target->slot,
        .gpu_instance = slice ? target->gpu_instance : (uint32_t)NVML_WHOLE_GPU,
        .compute_instance = slice ? target->compute_instance : (uint32_t)NVML_WHOLE_GPU,
        .memory = memory,
    };
}

/* With MIG mode on, CUDA sees slices only: a process cannot be on the whole GPU. */
static nvmlReturn_t add_process(State *state, const char *uuid, unsigned pid, uint64_t memory)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.compute == NULL && target.gpu->mig_current)
        return NVML_ERROR_NOT_SUPPORTED;
    for (unsigned index = 0; index < MAX_PROCESSES; index++)
        if (!state->processes[index].used) {
            state->processes[index] = process_on(&target, pid, memory);
            return NVML_SUCCESS;
        }
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

static nvmlReturn_t remove_process(State *state, const char *uuid, unsigned pid)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    Process wanted = process_on(&target, pid, 0);
    for (unsigned index = 0; index < MAX_PROCESSES; index++) {
        Process *process = &state->processes[index];
        if (process->used && process->pid == pid && process->gpu == wanted.gpu &&
            process->gpu_instance == wanted.gpu_instance && process->compute_instance == wanted.compute_instance) {
            *process = (Process){0};
            return NVML_SUCCESS;
        }
    }
    return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t inject_event(State *state, const char *uuid, uint64_t type, uint64_t data)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    Process place = process_on(&target, 0, 0);
    state->events[state->event_sequence % MAX_EVENTS] =
        (Event){type, data, place.gpu, place.gpu_instance, place.compute_instance};
    announce_change(&state->event_sequence);
    if (type == EVENT_XID)
        kernel_log_xid(state, &target, data);
    return NVML_SUCCESS;
}

static void restart_gpu(State *state, Gpu *gpu, bool reboot)
{
    procfs_clear_gpu(state, gpu);
    if (reboot && card_of(gpu)->architecture >= HOPPER)
        gpu->mig_pending = 0;
    settle_after_reset(gpu);
    health_after_reset(gpu);
    gpu->lost = 0;
}

static nvmlReturn_t reboot(State *state)
{
    forget_processes(state, -1);
    kernel_log_restart(state);
    for (unsigned slot = 0; slot < state->gpu_count; slot++)
        restart_gpu(state, &state->gpus[slot], true);
    return procfs_install(state) ? NVML_SUCCESS : NVML_ERROR_OPERATING_SYSTEM;
}

static nvmlReturn_t reset_gpu(State *state, const char *uuid)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (has_processes(state, target.slot, NVML_WHOLE_GPU, NVML_WHOLE_GPU))
        return NVML_ERROR_IN_USE;
    restart_gpu(state, target.gpu, false);
    return NVML_SUCCESS;
}

static nvmlReturn_t set_lost(State *state, const char *uuid, unsigned lost)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.gpu->lost && !lost)
        health_after_reset(target.gpu);
    target.gpu->lost = lost != 0;
    return NVML_SUCCESS;
}

/* Of a slice the errors of its SRAM, of a GPU those of its memory. */
static nvmlReturn_t set_ecc_errors(State *state, const char *uuid, unsigned count)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    *(target.compute != NULL ? &target.instance->ecc_sram : &target.gpu->ecc_dram) = count;
    return NVML_SUCCESS;
}

static nvmlReturn_t set_remapping(State *state, const char *uuid, unsigned pending, unsigned failed)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer == NVML_SUCCESS) {
        target.gpu->remap_pending = pending != 0;
        target.gpu->remap_failed = failed != 0;
    }
    return answer;
}

static nvmlReturn_t set_recovery_action(State *state, const char *uuid, unsigned action)
{
    Target target;
    nvmlReturn_t answer = find_uuid(state, uuid, &target);
    if (answer == NVML_SUCCESS)
        target.gpu->recovery_action = action;
    return answer;
}

static nvmlReturn_t set_driver_version(State *state, const char *version)
{
    if (version == NULL || strlen(version) >= sizeof state->driver_version)
        return NVML_ERROR_INVALID_ARGUMENT;
    strcpy(state->driver_version, version);
    return NVML_SUCCESS;
}

static nvmlReturn_t set_capability_major(State *state, unsigned major)
{
    state->capability_major = major;
    return procfs_install(state) ? NVML_SUCCESS : NVML_ERROR_OPERATING_SYSTEM;
}

static nvmlReturn_t set_privileged(State *state, unsigned privileged)
{
    state->privileged = privileged != 0;
    return NVML_SUCCESS;
}

EXPORT int nvmlSimCreate(const char *path, const char *root, const char *driver_version)
{
    if (path == NULL || root == NULL || driver_version == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    return store_create(path, root, driver_version);
}

EXPORT int nvmlSimOpen(const char *path, nvmlSimHandle **handle)
{
    if (path == NULL || handle == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    process_lock();
    nvmlReturn_t answer = store_open(path, handle);
    process_unlock();
    return answer;
}

EXPORT void nvmlSimClose(nvmlSimHandle *handle)
{
    process_lock();
    store_close(handle);
    process_unlock();
}

EXPORT int nvmlSimAddGpu(nvmlSimHandle *handle, const char *card, const char *pci_bus_id, unsigned minor,
                         const char *uuid)
{
    TURN(add_gpu(state, card, pci_bus_id, minor, uuid));
}

EXPORT int nvmlSimSetLatency(nvmlSimHandle *handle, const char *entry, unsigned microseconds)
{
    TURN(set_latency(state, entry, microseconds));
}

EXPORT int nvmlSimFailNth(nvmlSimHandle *handle, const char *entry, unsigned nth, int code)
{
    TURN(fail_nth(state, entry, nth, code));
}

EXPORT int nvmlSimSetHung(nvmlSimHandle *handle, const char *entry, unsigned hung)
{
    TURN(set_hung(state, entry, hung));
}

EXPORT int nvmlSimHungCalls(nvmlSimHandle *handle, const char *entry, unsigned *count)
{
    TURN(hung_calls(state, entry, count));
}

EXPORT int nvmlSimAddProcess(nvmlSimHandle *handle, const char *uuid, unsigned pid, uint64_t memory)
{
    TURN(add_process(state, uuid, pid, memory));
}

EXPORT int nvmlSimRemoveProcess(nvmlSimHandle *handle, const char *uuid, unsigned pid)
{
    TURN(remove_process(state, uuid, pid));
}

EXPORT int nvmlSimInjectEvent(nvmlSimHandle *handle, const char *uuid, uint64_t type, uint64_t data)
{
    TURN(inject_event(state, uuid, type, data));
}

EXPORT int nvmlSimReboot(nvmlSimHandle *handle)
{
    TURN(reboot(state));
}

EXPORT int nvmlSimResetGpu(nvmlSimHandle *handle, const char *uuid)
{
    TURN(reset_gpu(state, uuid));
}

EXPORT int nvmlSimSetPrivileged(nvmlSimHandle *handle, unsigned privileged)
{
    TURN(set_privileged(state, privileged));
}

EXPORT int nvmlSimSetLost(nvmlSimHandle *handle, const char *uuid, unsigned lost)
{
    TURN(set_lost(state, uuid, lost));
}

EXPORT int nvmlSimSetEccErrors(nvmlSimHandle *handle, const char *uuid, unsigned count)
{
    TURN(set_ecc_errors(state, uuid, count));
}

EXPORT int nvmlSimSetRemapping(nvmlSimHandle *handle, const char *uuid, unsigned pending, unsigned failed)
{
    TURN(set_remapping(state, uuid, pending, failed));
}

EXPORT int nvmlSimSetRecoveryAction(nvmlSimHandle *handle, const char *uuid, unsigned action)
{
    TURN(set_recovery_action(state, uuid, action));
}

EXPORT int nvmlSimSetDriverVersion(nvmlSimHandle *handle, const char *version)
{
    TURN(set_driver_version(state, version));
}

EXPORT int nvmlSimSetCapabilityMajor(nvmlSimHandle *handle, unsigned major)
{
    TURN(set_capability_major(state, major));
}
