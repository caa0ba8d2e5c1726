/* GPUs as devices: enumeration, identity, memory. MIG devices answer here too where NVML lets them. */
#include <stdio.h>
#include <string.h>

#include "simulator.h"

/* NVML numbers GPUs by PCI bus id, whatever the order they were found in. */
static uint64_t bus_order(const Gpu *gpu)
{
    return (uint64_t)gpu->domain << 32 | gpu->bus << 16 | gpu->device << 8 | gpu->function;
}

static unsigned index_of(const State *state, unsigned slot)
{
    unsigned index = 0;
    for (unsigned other = 0; other < state->gpu_count; other++)
        index += bus_order(&state->gpus[other]) < bus_order(&state->gpus[slot]);
    return index;
}

/* gpu_count when there is no such index. */
unsigned slot_of_index(const State *state, unsigned index)
{
    unsigned slot = 0;
    while (slot < state->gpu_count && index_of(state, slot) != index)
        slot++;
    return slot;
}

static nvmlReturn_t device_count(const State *state, unsigned *count)
{
    if (count == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = state->gpu_count;
    return NVML_SUCCESS;
}

static nvmlReturn_t handle_by_index(const State *state, unsigned index, nvmlDevice_t *device)
{
    if (device == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned slot = slot_of_index(state, index);
    if (slot == state->gpu_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = device_handle(slot);
    return state->gpus[slot].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

static nvmlReturn_t handle_by_uuid(State *state, const char *uuid, nvmlDevice_t *device)
{
    Target target;
    nvmlReturn_t answer = device == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_uuid(state, uuid, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    *device = target.compute == NULL ? device_handle(target.slot)
                                     : mig_handle(target.slot, target.gpu_instance, target.compute_instance);
    return target.gpu->lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

static nvmlReturn_t handle_by_bus_id(const State *state, const char *bus_id, nvmlDevice_t *device)
{
    Gpu wanted = {0};
    if (bus_id == NULL || device == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (sscanf(bus_id, "%x:%x:%x.%x", &wanted.domain, &wanted.bus, &wanted.device, &wanted.function) < 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned slot = 0; slot < state->gpu_count; slot++)
        if (bus_order(&state->gpus[slot]) == bus_order(&wanted)) {
            *device = device_handle(slot);
            return state->gpus[slot].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t device_name(State *state, nvmlDevice_t device, char *name, unsigned length)
{
    Target target;
    char text[NVML_NAME_SIZE], slice[48];
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.compute == NULL)
        return copy_text(card_of(target.gpu)->product, name, length);
    compute_name(profile_of(&target), target.compute->slices, slice, sizeof slice);
    snprintf(text, sizeof text, "%.62s %.31s", card_of(target.gpu)->product, slice);
    return copy_text(text, name, length);
}

static nvmlReturn_t device_uuid(State *state, nvmlDevice_t device, char *uuid, unsigned length)
{
    Target target;
    char text[48];
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.compute == NULL)
        return copy_text(target.gpu->uuid, uuid, length);
    mig_uuid(target.gpu, target.gpu_instance, target.compute_instance, text);
    return copy_text(text, uuid, length);
}

static nvmlReturn_t device_index(State *state, nvmlDevice_t device, unsigned *index)
{
    Target target;
    nvmlReturn_t answer = index == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        *index = index_of(state, target.slot);
    return answer;
}

static nvmlReturn_t minor_number(State *state, nvmlDevice_t device, unsigned *minor)
{
    Target target;
    nvmlReturn_t answer = minor == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        *minor = target.gpu->minor;
    return answer;
}

/* A MIG device answers with its GPU's place on the bus. */
static nvmlReturn_t pci_info(State *state, nvmlDevice_t device, nvmlPciInfo_t *info)
{
    Target target;
    nvmlReturn_t answer = info == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    const Gpu *gpu = target.gpu;
    *info = (nvmlPciInfo_t){.domain = gpu->domain, .bus = gpu->bus, .device = gpu->device};
    info->pciDeviceId = card_of(gpu)->pci_device_id;
    info->pciSubSystemId = card_of(gpu)->pci_subsystem_id;
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.%1X", gpu->domain & 0xffff,
             gpu->bus & 0xff, gpu->device & 0xff, gpu->function & 0xf);
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.%1X", gpu->domain, gpu->bus & 0xff,
             gpu->device & 0xff, gpu->function & 0xf);
    return NVML_SUCCESS;
}

static nvmlReturn_t memory_info(State *state, nvmlDevice_t device, nvmlMemory_t *memory)
{
    Target target;
    nvmlReturn_t answer = memory == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    unsigned mebibytes = target.compute == NULL ? card_of(target.gpu)->memory_mib : profile_of(&target)->memory_mib;
    memory->total = (unsigned long long)mebibytes << 20;
    memory->used = memory_in_use(state, &target);
    if (memory->used > memory->total)
        memory->used = memory->total;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

static nvmlReturn_t memory_info_v2(State *state, nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t plain;
    if (memory == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != MEMORY_V2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t answer = memory_info(state, device, &plain);
    if (answer == NVML_SUCCESS)
        *memory = (nvmlMemory_v2_t){MEMORY_V2, plain.total, 0, plain.free, plain.used};
    return answer;
}

static nvmlReturn_t compute_capability(State *state, nvmlDevice_t device, int *major, int *minor)
{
    Target target;
    if (major == NULL || minor == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer == NVML_SUCCESS) {
        *major = card_of(target.gpu)->capability_major;
        *minor = card_of(target.gpu)->capability_minor;
    }
    return answer;
}

static nvmlReturn_t architecture(State *state, nvmlDevice_t device, unsigned *number)
{
    Target target;
    nvmlReturn_t answer = number == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_either(state, device, &target);
    if (answer == NVML_SUCCESS)
        *number = card_of(target.gpu)->architecture;
    return answer;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned *count)
{
    ANSWER(device_count(state, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    ANSWER(device_count(state, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device)
{
    ANSWER(handle_by_index(state, index, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    ANSWER(handle_by_index(state, index, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    ANSWER(handle_by_uuid(state, uuid, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device)
{
    ANSWER(handle_by_bus_id(state, bus_id, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
    ANSWER(handle_by_bus_id(state, bus_id, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    ANSWER(device_name(state, device, name, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    ANSWER(device_uuid(state, device, uuid, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    ANSWER(device_index(state, device, index));
}

EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
    ANSWER(minor_number(state, device, minor));
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    ANSWER(pci_info(state, device, info));
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    ANSWER(memory_info(state, device, memory));
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    ANSWER(memory_info_v2(state, device, memory));
}

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    ANSWER(compute_capability(state, device, major, minor));
}

EXPORT nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned *number)
{
    ANSWER(architecture(state, device, number));
}
