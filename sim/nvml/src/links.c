/* NVLink, topology and fabric, as a host without NVSwitch and with one GPU a root port shows them. NVIDIA's
 * device plugin asks for whole GPUs only, GPU feature discovery asks for the fabric. */
#include <string.h>

#include "simulator.h"

enum {
    TOPOLOGY_INTERNAL = 0,
    TOPOLOGY_NODE = 40, /* same NUMA node, different host bridges */
    NVLINK_MAX = 18,
    FABRIC_NOT_SUPPORTED = 0,
};

static nvmlReturn_t common_ancestor(State *state, nvmlDevice_t one, nvmlDevice_t other, unsigned *level)
{
    Target first, second;
    nvmlReturn_t answer = level == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, one, &first);
    if (answer == NVML_SUCCESS)
        answer = find_gpu(state, other, &second);
    if (answer == NVML_SUCCESS)
        *level = first.slot == second.slot ? TOPOLOGY_INTERNAL : TOPOLOGY_NODE;
    return answer;
}

static nvmlReturn_t link_state(State *state, nvmlDevice_t device, unsigned link, unsigned *active)
{
    Target target;
    if (active == NULL || link >= NVLINK_MAX)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        *active = 0;
    return answer;
}

/* Before Hopper there is no fabric to ask for; from then on a GPU outside one says so in its state. */
static nvmlReturn_t fabric(State *state, nvmlDevice_t device, nvmlGpuFabricInfo_t *info)
{
    Target target;
    nvmlReturn_t answer = info == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (card_of(target.gpu)->architecture < HOPPER)
        return NVML_ERROR_NOT_SUPPORTED;
    *info = (nvmlGpuFabricInfo_t){.status = NVML_SUCCESS, .state = FABRIC_NOT_SUPPORTED};
    return NVML_SUCCESS;
}

static nvmlReturn_t fabric_versioned(State *state, nvmlDevice_t device, nvmlGpuFabricInfo_v3_t *info)
{
    nvmlGpuFabricInfo_t plain;
    if (info == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != GPU_FABRIC_INFO_V2 && info->version != GPU_FABRIC_INFO_V3)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t answer = fabric(state, device, &plain);
    if (answer != NVML_SUCCESS)
        return answer;
    memcpy(info->clusterUuid, plain.clusterUuid, sizeof info->clusterUuid);
    info->status = plain.status;
    info->cliqueId = plain.cliqueId;
    info->state = plain.state;
    info->healthMask = 0;
    if (info->version == GPU_FABRIC_INFO_V3)
        info->healthSummary = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, unsigned *level)
{
    ANSWER(common_ancestor(state, one, other, level));
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, unsigned *active)
{
    ANSWER(link_state(state, device, link, active));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t *info)
{
    ANSWER(fabric(state, device, info));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v3_t *info)
{
    ANSWER(fabric_versioned(state, device, info));
}
