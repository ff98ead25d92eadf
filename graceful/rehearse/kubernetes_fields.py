"""The fields of Kubernetes' API that a workload's manifest may have, and what becomes of them in a rehearsal.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/ (v1.34)
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OBJECT: Final = _words("apiVersion kind metadata spec status")

WORKLOADS: Final = MappingProxyType(
    {
        "Deployment": _words(
            "replicas selector template strategy minReadySeconds revisionHistoryLimit paused "
            "progressDeadlineSeconds"
        ),
        "StatefulSet": _words(
            "replicas selector template volumeClaimTemplates serviceName podManagementPolicy updateStrategy "
            "revisionHistoryLimit minReadySeconds persistentVolumeClaimRetentionPolicy ordinals"
        ),
        "DaemonSet": _words("selector template updateStrategy minReadySeconds revisionHistoryLimit"),
    }
)

POD: Final = _words(
    "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy "
    "enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname "
    "hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os overhead preemptionPolicy "
    "priority priorityClassName readinessGates resourceClaims resources restartPolicy runtimeClassName "
    "schedulerName schedulingGates securityContext serviceAccount serviceAccountName setHostnameAsFQDN "
    "shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations topologySpreadConstraints "
    "volumes"
)

CONTAINER: Final = _words(
    "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe "
    "resizePolicy resources restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce "
    "terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts workingDir"
)

PROBE: Final = _words(
    "exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold tcpSocket "
    "terminationGracePeriodSeconds timeoutSeconds"
)
HANDLER: Final = _words("exec httpGet sleep tcpSocket")
HTTP_GET: Final = _words("host httpHeaders path port scheme")
TCP_SOCKET: Final = _words("host port")
EXEC: Final = _words("command")
SLEEP: Final = _words("seconds")
HEADER: Final = _words("name value")
LIFECYCLE: Final = _words("postStart preStop stopSignal")
VARIABLE: Final = _words("name value valueFrom")
PORT: Final = _words("containerPort hostIP hostPort name protocol")

HONOURED: Final = _words(
    "args command containers env image initContainers lifecycle livenessProbe name ports readinessProbe "
    "replicas restartPolicy startupProbe template terminationGracePeriodSeconds"
)
"""What a rehearsal does as it is written, or says something about of its own."""

WITHOUT_EFFECT: Final = _words(
    "affinity automountServiceAccountToken dnsPolicy enableServiceLinks imagePullPolicy imagePullSecrets "
    "nodeName nodeSelector os paused podManagementPolicy preemptionPolicy priority priorityClassName "
    "progressDeadlineSeconds revisionHistoryLimit schedulerName schedulingGates selector serviceAccount "
    "serviceAccountName serviceName stdin stdinOnce terminationMessagePath terminationMessagePolicy "
    "tolerations topologySpreadConstraints tty"
)
"""What says where and as whom a pod runs, not how it lives: a rehearsal has nothing to say about it."""
