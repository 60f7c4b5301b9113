package api

// fieldTable says of every field of every served kind what becomes of it:
//   - the name of a part (a folder): that part honours it; the test looks for the field's Go name in its code;
//   - stored: Kubernetes' own definition makes it information for people and other programs;
//   - ours: written by Pintle itself, a client's value is replaced;
//   - valued: some values are honoured, the others refused; valuedCases has both;
//   - refused: setting it is an error that names it. What is below it is not looked at.
//
// "inline" marks embedded structs and unions without a meaning of their own.
const fieldTable = `
orchestrator/api.Member
	inline: metadata spec
orchestrator/api.MemberSpec
	orchestrator: role
orchestrator/api.PolicyModule
	inline: metadata spec
orchestrator/api.PolicyModuleSpec
	inline: source
	orchestrator/policy: digest
orchestrator/api.PolicyModuleSource
	orchestrator/policy: inline image embedded
orchestrator/api.AdmissionPolicy
	inline: metadata spec
orchestrator/api.AdmissionPolicySpec
	orchestrator/policy: module settings type matchConstraints failurePolicy order mode limits capabilities
admissionregistration/v1.MatchResources
	orchestrator/policy: namespaceSelector objectSelector resourceRules excludeResourceRules matchPolicy
admissionregistration/v1.NamedRuleWithOperations
	orchestrator/policy: resourceNames
	inline: RuleWithOperations
admissionregistration/v1.RuleWithOperations
	orchestrator/policy: operations
	inline: Rule
admissionregistration/v1.Rule
	orchestrator/policy: apiGroups apiVersions resources scope
orchestrator/api.SchedulingPolicy
	inline: metadata spec
orchestrator/api.SchedulingPolicySpec
	orchestrator/policy: module settings extensionPoints weight profile failurePolicy limits capabilities
orchestrator/api.PolicyLimits
	orchestrator/policy: fuel memory output hostCalls timeout
meta/v1.Duration
	inline: Duration
core/v1.Namespace
	inline: metadata spec
core/v1.NamespaceSpec
	orchestrator/controllers/namespace: finalizers
rbac/v1.Role
	inline: metadata
	orchestrator/apiserver/authz: rules
rbac/v1.ClusterRole
	inline: metadata
	orchestrator/apiserver/authz: rules aggregationRule
rbac/v1.AggregationRule
	orchestrator/apiserver/authz: clusterRoleSelectors
rbac/v1.PolicyRule
	orchestrator/apiserver/authz: verbs apiGroups resources resourceNames nonResourceURLs
rbac/v1.RoleBinding
	inline: metadata
	orchestrator/apiserver/authz: subjects roleRef
rbac/v1.ClusterRoleBinding
	inline: metadata
	orchestrator/apiserver/authz: subjects roleRef
rbac/v1.Subject
	orchestrator/apiserver/authz: kind name namespace
	orchestrator/api: apiGroup
rbac/v1.RoleRef
	orchestrator/apiserver/authz: kind name
	orchestrator/api: apiGroup
core/v1.Node
	inline: metadata spec
core/v1.NodeSpec
	runtime: podCIDR
	orchestrator/api: podCIDRs
	stored: providerID externalID
	orchestrator/scheduler: unschedulable taints
	refused: configSource podPreemptionPolicy
core/v1.Taint
	orchestrator/scheduler: key value effect
	orchestrator/controllers/tainteviction: timeAdded
core/v1.Pod
	inline: metadata spec
core/v1.PodTemplateSpec
	inline: metadata spec
core/v1.PodSpec
	runtime: volumes initContainers containers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy dnsConfig
	runtime: serviceAccountName hostNetwork hostPID hostIPC securityContext hostname subdomain hostAliases
	runtime: overhead readinessGates runtimeClassName enableServiceLinks
	orchestrator/scheduler: nodeSelector nodeName affinity schedulerName tolerations priority preemptionPolicy topologySpreadConstraints schedulingGates
	orchestrator/api: serviceAccount automountServiceAccountToken priorityClassName schedulingGroup
	valued: os hostUsers setHostnameAsFQDN shareProcessNamespace
	orchestrator/scheduler: resourceClaims
	refused: imagePullSecrets ephemeralContainers resources hostnameOverride evictionResponders
core/v1.PodSchedulingGroup
	orchestrator/api: podGroupName
core/v1.PodOS
	valued: name
core/v1.PodDNSConfig
	runtime: nameservers searches options
core/v1.PodDNSConfigOption
	runtime: name value
core/v1.HostAlias
	runtime: ip hostnames
core/v1.PodReadinessGate
	runtime: conditionType
core/v1.PodSchedulingGate
	orchestrator/api: name
core/v1.PodSecurityContext
	runtime: runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup
	valued: sysctls seccompProfile supplementalGroupsPolicy appArmorProfile
	runtime: fsGroupChangePolicy
	refused: seLinuxOptions windowsOptions seLinuxChangePolicy
core/v1.Sysctl
	runtime: name value
core/v1.SeccompProfile
	valued: type
	refused: localhostProfile
core/v1.AppArmorProfile
	valued: type
	refused: localhostProfile
core/v1.SecurityContext
	runtime: capabilities privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation procMount
	valued: seccompProfile appArmorProfile
	refused: seLinuxOptions windowsOptions
core/v1.Capabilities
	runtime: add drop
core/v1.Container
	runtime: name image command args workingDir ports envFrom env resources restartPolicy volumeMounts livenessProbe readinessProbe startupProbe
	runtime: lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext stdin stdinOnce tty resizePolicy
	refused: restartPolicyRules volumeDevices
core/v1.ContainerPort
	runtime: hostPort hostIP protocol
	orchestrator/controllers/endpointslice: name containerPort
core/v1.EnvFromSource
	runtime: prefix configMapRef secretRef
core/v1.ConfigMapEnvSource
	inline: LocalObjectReference
	runtime: optional
core/v1.SecretEnvSource
	inline: LocalObjectReference
	runtime: optional
core/v1.LocalObjectReference
	runtime: name
core/v1.EnvVar
	runtime: name value valueFrom
core/v1.EnvVarSource
	runtime: fieldRef resourceFieldRef configMapKeyRef secretKeyRef
	refused: fileKeyRef
core/v1.ObjectFieldSelector
	orchestrator/api: apiVersion
	runtime: fieldPath
core/v1.ResourceFieldSelector
	runtime: containerName resource divisor
core/v1.ConfigMapKeySelector
	inline: LocalObjectReference
	runtime: key optional
core/v1.SecretKeySelector
	inline: LocalObjectReference
	runtime: key optional
core/v1.ContainerResizePolicy
	runtime: resourceName restartPolicy
core/v1.ResourceRequirements
	runtime: limits
	orchestrator/scheduler: requests claims
core/v1.ResourceClaim
	orchestrator/scheduler: name request
core/v1.PodResourceClaim
	orchestrator/scheduler: name resourceClaimName
	orchestrator/controllers/resourceclaim: resourceClaimTemplateName
core/v1.VolumeMount
	runtime: name readOnly mountPath subPath subPathExpr mountPropagation
	valued: recursiveReadOnly
	refused: bindMountOptions
core/v1.Probe
	inline: ProbeHandler
	runtime: initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds
core/v1.ProbeHandler
	runtime: exec httpGet tcpSocket grpc
core/v1.ExecAction
	runtime: command
core/v1.HTTPGetAction
	runtime: path port host scheme httpHeaders
	refused: protocol
core/v1.HTTPHeader
	runtime: name value
core/v1.TCPSocketAction
	runtime: port host
core/v1.GRPCAction
	runtime: port service
	valued: mode
core/v1.Lifecycle
	runtime: postStart preStop
	refused: stopSignal
core/v1.LifecycleHandler
	runtime: exec httpGet sleep
	refused: tcpSocket
core/v1.SleepAction
	runtime: seconds
core/v1.Volume
	runtime: name
	inline: VolumeSource
core/v1.VolumeSource
	runtime: hostPath emptyDir secret configMap downwardAPI projected
	orchestrator/api: persistentVolumeClaim csi ephemeral
	refused: gcePersistentDisk awsElasticBlockStore gitRepo nfs iscsi glusterfs rbd flexVolume cinder cephfs flocker fc
	refused: azureFile vsphereVolume quobyte azureDisk photonPersistentDisk portworxVolume scaleIO storageos image
core/v1.PersistentVolumeClaimVolumeSource
	orchestrator/api: claimName
	runtime: readOnly
core/v1.EphemeralVolumeSource
	orchestrator/api: volumeClaimTemplate
core/v1.PersistentVolumeClaimTemplate
	inline: metadata spec
core/v1.CSIVolumeSource
	orchestrator/api: driver nodePublishSecretRef
	runtime: readOnly fsType volumeAttributes
core/v1.PersistentVolumeClaim
	ours: status
	inline: metadata spec
core/v1.PersistentVolumeClaimSpec
	orchestrator/api: accessModes selector resources volumeName storageClassName volumeMode
	refused: dataSource dataSourceRef volumeAttributesClassName
core/v1.VolumeResourceRequirements
	orchestrator/api: requests
	stored: limits
core/v1.PersistentVolume
	inline: metadata spec
core/v1.PersistentVolumeSpec
	orchestrator/api: capacity accessModes claimRef storageClassName volumeMode nodeAffinity
	valued: persistentVolumeReclaimPolicy
	runtime: mountOptions
	inline: PersistentVolumeSource
	refused: volumeAttributesClassName
core/v1.PersistentVolumeSource
	orchestrator/api: hostPath local csi
	refused: gcePersistentDisk awsElasticBlockStore nfs iscsi glusterfs rbd flexVolume cinder cephfs flocker fc
	refused: azureFile vsphereVolume quobyte azureDisk photonPersistentDisk portworxVolume scaleIO storageos
core/v1.LocalVolumeSource
	orchestrator/api: path
	refused: fsType
core/v1.CSIPersistentVolumeSource
	orchestrator/api: driver volumeHandle
	orchestrator/api: controllerPublishSecretRef nodeStageSecretRef nodePublishSecretRef controllerExpandSecretRef nodeExpandSecretRef
	runtime: readOnly fsType volumeAttributes
core/v1.SecretReference
	orchestrator/api: name namespace
core/v1.VolumeNodeAffinity
	orchestrator/scheduler: required
core/v1.ObjectReference
	orchestrator/api: name namespace
	stored: kind uid apiVersion resourceVersion fieldPath
storage/v1.StorageClass
	inline: metadata
	orchestrator/api: provisioner parameters reclaimPolicy allowVolumeExpansion volumeBindingMode allowedTopologies
	runtime: mountOptions
core/v1.TopologySelectorTerm
	orchestrator/scheduler: matchLabelExpressions
core/v1.TopologySelectorLabelRequirement
	orchestrator/scheduler: key values
storage/v1.VolumeAttachment
	inline: metadata spec
storage/v1.VolumeAttachmentSpec
	orchestrator/api: attacher nodeName source
storage/v1.VolumeAttachmentSource
	orchestrator/api: persistentVolumeName
	refused: inlineVolumeSpec
storage/v1.CSIDriver
	inline: metadata spec
storage/v1.CSIDriverSpec
	orchestrator/controllers/attachdetach: attachRequired
	runtime: podInfoOnMount volumeLifecycleModes fsGroupPolicy tokenRequests requiresRepublish serviceAccountTokenInSecrets
	orchestrator/scheduler: storageCapacity preventPodSchedulingIfMissing
	stored: seLinuxMount nodeAllocatableUpdatePeriodSeconds
storage/v1.TokenRequest
	runtime: audience expirationSeconds
storage/v1.CSINode
	inline: metadata spec
storage/v1.CSINodeSpec
	orchestrator/api: drivers
storage/v1.CSINodeDriver
	orchestrator/api: name allocatable topologyKeys
	runtime: nodeID
storage/v1.VolumeNodeResources
	orchestrator/scheduler: count
storage/v1.CSIStorageCapacity
	inline: metadata
	orchestrator/scheduler: nodeTopology storageClassName capacity maximumVolumeSize
core/v1.HostPathVolumeSource
	runtime: path type
core/v1.EmptyDirVolumeSource
	runtime: medium sizeLimit
	refused: mode
core/v1.SecretVolumeSource
	runtime: secretName items defaultMode optional
	refused: defaultUser
core/v1.ConfigMapVolumeSource
	inline: LocalObjectReference
	runtime: items defaultMode optional
	refused: defaultUser
core/v1.KeyToPath
	runtime: key path mode
	refused: user
core/v1.DownwardAPIVolumeSource
	runtime: items defaultMode
	refused: defaultUser
core/v1.DownwardAPIVolumeFile
	runtime: path fieldRef resourceFieldRef mode
	refused: user
core/v1.ProjectedVolumeSource
	runtime: sources defaultMode
	refused: defaultUser
core/v1.VolumeProjection
	runtime: secret downwardAPI configMap serviceAccountToken
	refused: clusterTrustBundle podCertificate
core/v1.SecretProjection
	inline: LocalObjectReference
	runtime: items optional
core/v1.ConfigMapProjection
	inline: LocalObjectReference
	runtime: items optional
core/v1.DownwardAPIProjection
	runtime: items
core/v1.ServiceAccountTokenProjection
	runtime: audience expirationSeconds path
	refused: user
core/v1.Affinity
	orchestrator/scheduler: nodeAffinity podAffinity podAntiAffinity
core/v1.NodeAffinity
	orchestrator/scheduler: requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution
core/v1.NodeSelector
	library: nodeSelectorTerms
core/v1.NodeSelectorTerm
	library: matchExpressions matchFields
core/v1.NodeSelectorRequirement
	library: key operator values
core/v1.PreferredSchedulingTerm
	library: weight preference
core/v1.PodAffinity
	orchestrator/scheduler: requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution
core/v1.PodAntiAffinity
	orchestrator/scheduler: requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution
core/v1.PodAffinityTerm
	orchestrator/scheduler: labelSelector namespaces topologyKey namespaceSelector matchLabelKeys mismatchLabelKeys
core/v1.WeightedPodAffinityTerm
	orchestrator/scheduler: weight podAffinityTerm
core/v1.Toleration
	orchestrator/scheduler: key value effect
	valued: operator
	orchestrator/controllers/tainteviction: tolerationSeconds
core/v1.TopologySpreadConstraint
	orchestrator/scheduler: maxSkew topologyKey whenUnsatisfiable labelSelector minDomains nodeAffinityPolicy nodeTaintsPolicy matchLabelKeys
meta/v1.LabelSelector
	library: matchLabels matchExpressions
meta/v1.LabelSelectorRequirement
	library: key operator values
core/v1.Service
	inline: metadata spec
core/v1.ServiceSpec
	netproxy: ports clusterIP clusterIPs type sessionAffinity sessionAffinityConfig externalName externalTrafficPolicy internalTrafficPolicy
	orchestrator/controllers/endpointslice: selector publishNotReadyAddresses
	orchestrator/api: allocateLoadBalancerNodePorts
	valued: ipFamilies ipFamilyPolicy
	orchestrator/controllers/loadbalancer: loadBalancerIP
	orchestrator/api: loadBalancerClass
	refused: externalIPs loadBalancerSourceRanges healthCheckNodePort trafficDistribution
core/v1.ServicePort
	netproxy: name port nodePort
	valued: protocol
	orchestrator/controllers/endpointslice: targetPort appProtocol
core/v1.SessionAffinityConfig
	netproxy: clientIP
core/v1.ClientIPConfig
	netproxy: timeoutSeconds
core/v1.Endpoints
	inline: metadata
	orchestrator/controllers/endpointslice: subsets
core/v1.EndpointSubset
	orchestrator/controllers/endpointslice: addresses notReadyAddresses ports
core/v1.EndpointAddress
	orchestrator/controllers/endpointslice: ip hostname nodeName
	stored: targetRef
core/v1.EndpointPort
	orchestrator/controllers/endpointslice: name port protocol appProtocol
discovery/v1.EndpointSlice
	inline: metadata
	valued: addressType
	netproxy: endpoints ports
discovery/v1.Endpoint
	netproxy: addresses conditions hostname nodeName
	stored: targetRef zone
	ours: deprecatedTopology
	refused: hints
discovery/v1.EndpointConditions
	netproxy: ready serving terminating
discovery/v1.EndpointPort
	netproxy: name protocol port
	stored: appProtocol
core/v1.ConfigMap
	inline: metadata
	orchestrator/api: immutable
	runtime: data binaryData
core/v1.Secret
	inline: metadata
	orchestrator/api: immutable stringData type
	runtime: data
core/v1.ServiceAccount
	inline: metadata
	stored: secrets
	orchestrator/api: automountServiceAccountToken
	refused: imagePullSecrets
core/v1.Event
	inline: metadata
	stored: involvedObject reason message source firstTimestamp lastTimestamp count type eventTime series action related reportingComponent reportingInstance
events/v1.Event
	inline: metadata
	stored: eventTime series reportingController reportingInstance action reason regarding related note type
	stored: deprecatedSource deprecatedFirstTimestamp deprecatedLastTimestamp deprecatedCount
coordination/v1.Lease
	inline: metadata spec
coordination/v1.LeaseSpec
	stored: holderIdentity acquireTime leaseTransitions leaseDurationSeconds
	orchestrator/controllers/nodelifecycle: renewTime
	refused: strategy preferredHolder
apps/v1.ReplicaSet
	inline: metadata spec
apps/v1.ReplicaSetSpec
	orchestrator/controllers/replicaset: replicas minReadySeconds selector template
apps/v1.Deployment
	inline: metadata spec
apps/v1.DeploymentSpec
	orchestrator/controllers/deployment: replicas selector template strategy minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds
apps/v1.DeploymentStrategy
	orchestrator/controllers/deployment: type rollingUpdate
apps/v1.RollingUpdateDeployment
	orchestrator/controllers/deployment: maxUnavailable maxSurge
batch/v1.Job
	inline: metadata spec
batch/v1.JobSpec
	orchestrator/controllers/job: parallelism completions activeDeadlineSeconds podFailurePolicy successPolicy backoffLimit
	orchestrator/controllers/job: backoffLimitPerIndex maxFailedIndexes template suspend podReplacementPolicy managedBy
	orchestrator/controllers/job: selector manualSelector
	orchestrator/controllers/ttlafterfinished: ttlSecondsAfterFinished
	orchestrator/api: completionMode
	refused: scheduling
batch/v1.PodFailurePolicy
	orchestrator/controllers/job: rules
batch/v1.PodFailurePolicyRule
	orchestrator/controllers/job: action onExitCodes onPodConditions
batch/v1.PodFailurePolicyOnExitCodesRequirement
	orchestrator/controllers/job: containerName operator values
batch/v1.PodFailurePolicyOnPodConditionsPattern
	orchestrator/controllers/job: type status
batch/v1.SuccessPolicy
	orchestrator/controllers/job: rules
batch/v1.SuccessPolicyRule
	orchestrator/controllers/job: succeededIndexes succeededCount
batch/v1.CronJob
	inline: metadata spec
batch/v1.CronJobSpec
	orchestrator/controllers/cronjob: schedule timeZone startingDeadlineSeconds concurrencyPolicy suspend jobTemplate
	orchestrator/controllers/cronjob: successfulJobsHistoryLimit failedJobsHistoryLimit
batch/v1.JobTemplateSpec
	orchestrator/controllers/cronjob: spec
	inline: metadata
apps/v1.StatefulSet
	inline: metadata spec
apps/v1.StatefulSetSpec
	orchestrator/controllers/statefulset: replicas selector template serviceName podManagementPolicy updateStrategy revisionHistoryLimit
	orchestrator/controllers/statefulset: minReadySeconds persistentVolumeClaimRetentionPolicy ordinals volumeClaimTemplates
apps/v1.StatefulSetUpdateStrategy
	orchestrator/controllers/statefulset: rollingUpdate
	valued: type
apps/v1.RollingUpdateStatefulSetStrategy
	orchestrator/controllers/statefulset: partition maxUnavailable
apps/v1.StatefulSetPersistentVolumeClaimRetentionPolicy
	orchestrator/controllers/statefulset: whenDeleted whenScaled
apps/v1.StatefulSetOrdinals
	orchestrator/controllers/statefulset: start
apps/v1.DaemonSet
	inline: metadata spec
apps/v1.DaemonSetSpec
	orchestrator/controllers/daemonset: selector template updateStrategy minReadySeconds revisionHistoryLimit
apps/v1.DaemonSetUpdateStrategy
	orchestrator/controllers/daemonset: type rollingUpdate
apps/v1.RollingUpdateDaemonSet
	orchestrator/controllers/daemonset: maxUnavailable maxSurge
apps/v1.ControllerRevision
	inline: metadata
	stored: data revision
networking/v1.Ingress
	inline: metadata spec
networking/v1.IngressSpec
	netproxy/ingress: ingressClassName defaultBackend tls rules
networking/v1.IngressTLS
	netproxy/ingress: hosts secretName
networking/v1.IngressRule
	netproxy/ingress: host
	inline: IngressRuleValue
networking/v1.IngressRuleValue
	netproxy/ingress: http
networking/v1.HTTPIngressRuleValue
	netproxy/ingress: paths
networking/v1.HTTPIngressPath
	netproxy/ingress: path pathType backend
networking/v1.IngressBackend
	netproxy/ingress: service
	refused: resource
networking/v1.IngressServiceBackend
	netproxy/ingress: name port
networking/v1.ServiceBackendPort
	netproxy/ingress: name number
networking/v1.IngressClass
	inline: metadata spec
networking/v1.IngressClassSpec
	netproxy/ingress: controller
	refused: parameters
node/v1.RuntimeClass
	inline: metadata
	runtime: handler
	orchestrator/api: overhead scheduling
node/v1.Overhead
	orchestrator/api: podFixed
node/v1.Scheduling
	orchestrator/api: nodeSelector tolerations
scheduling/v1.PriorityClass
	inline: metadata
	orchestrator/api: value globalDefault preemptionPolicy
	stored: description
scheduling/v1beta1.PodGroup
	inline: metadata spec
scheduling/v1beta1.PodGroupSpec
	inline: schedulingPolicy
	orchestrator/scheduler: schedulingConstraints priority preemptionPolicy
	orchestrator/api: priorityClassName disruptionMode
	stored: workloadRef
	refused: parentCompositePodGroupName resourceClaims
scheduling/v1beta1.PodGroupSchedulingPolicy
	orchestrator/scheduler: gang
	orchestrator/api: basic
scheduling/v1beta1.GangSchedulingPolicy
	orchestrator/scheduler: minCount
scheduling/v1beta1.PodGroupSchedulingConstraints
	orchestrator/scheduler: topology
scheduling/v1beta1.TopologyConstraint
	orchestrator/scheduler: key
scheduling/v1beta1.DisruptionMode
	orchestrator/api: single all
orchestrator/api.Queue
	inline: metadata spec
orchestrator/api.QueueSpec
	orchestrator/scheduler: namespaces namespaceSelector nominalQuota borrowingLimit cohort weight
orchestrator/api.Recommendation
	inline: metadata spec
orchestrator/api.RecommendationSpec
	orchestrator/controllers/recommender: targetRef
orchestrator/api.TargetRef
	orchestrator/controllers/recommender: apiVersion kind name
orchestrator/api.AddressPool
	inline: metadata spec
orchestrator/api.AddressPoolSpec
	orchestrator/controllers/loadbalancer: addresses autoAssign namespaceSelector serviceSelector
networking/v1.ServiceCIDR
	inline: metadata spec
networking/v1.ServiceCIDRSpec
	orchestrator/registry: cidrs
networking/v1.IPAddress
	inline: metadata spec
networking/v1.IPAddressSpec
	orchestrator/registry: parentRef
networking/v1.ParentReference
	orchestrator/registry: resource namespace name
	orchestrator/api: group
core/v1.ResourceQuota
	inline: metadata spec
core/v1.ResourceQuotaSpec
	orchestrator/registry: hard
	orchestrator/api: scopes scopeSelector
core/v1.ScopeSelector
	orchestrator/api: matchExpressions
core/v1.ScopedResourceSelectorRequirement
	orchestrator/api: scopeName operator values
core/v1.LimitRange
	inline: metadata spec
core/v1.LimitRangeSpec
	orchestrator/api: limits
core/v1.LimitRangeItem
	orchestrator/api: type max min default defaultRequest maxLimitRequestRatio
policy/v1.PodDisruptionBudget
	inline: metadata spec
policy/v1.PodDisruptionBudgetSpec
	orchestrator/controllers/disruption: minAvailable selector maxUnavailable
	orchestrator/registry: unhealthyPodEvictionPolicy
resource/v1.DeviceClass
	inline: metadata spec
resource/v1.DeviceClassSpec
	orchestrator/scheduler: selectors config
	refused: extendedResourceName
resource/v1.DeviceClassConfiguration
	inline: DeviceConfiguration
resource/v1.DeviceSelector
	orchestrator/scheduler: cel
resource/v1.CELDeviceSelector
	orchestrator/scheduler: expression
resource/v1.DeviceConfiguration
	stored: opaque
resource/v1.ResourceClaim
	inline: metadata spec
resource/v1.ResourceClaimSpec
	orchestrator/scheduler: devices
resource/v1.ResourceClaimTemplate
	inline: metadata spec
resource/v1.ResourceClaimTemplateSpec
	orchestrator/controllers/resourceclaim: metadata spec
resource/v1.DeviceClaim
	orchestrator/scheduler: requests constraints config
resource/v1.DeviceRequest
	orchestrator/scheduler: name exactly firstAvailable
resource/v1.ExactDeviceRequest
	orchestrator/scheduler: deviceClassName selectors allocationMode count tolerations capacity
	valued: adminAccess
	refused: derivedAttributes
resource/v1.DeviceSubRequest
	orchestrator/scheduler: name deviceClassName selectors allocationMode count tolerations capacity
	refused: derivedAttributes
resource/v1.DeviceToleration
	orchestrator/scheduler: key operator value effect
	orchestrator/controllers/devicetainteviction: tolerationSeconds
resource/v1.CapacityRequirements
	orchestrator/scheduler: requests
resource/v1.DeviceConstraint
	orchestrator/scheduler: requests matchAttribute distinctAttribute
resource/v1.DeviceClaimConfiguration
	orchestrator/scheduler: requests
	inline: DeviceConfiguration
resource/v1.ResourceSlice
	inline: metadata spec
resource/v1.ResourceSliceSpec
	orchestrator/scheduler: driver pool nodeName nodeSelector allNodes devices perDeviceNodeSelection sharedCounters
	refused: partitionTypeAttribute skipNodeOperations
resource/v1.ResourcePool
	orchestrator/scheduler: name generation resourceSliceCount
resource/v1.CounterSet
	orchestrator/scheduler: name counters
resource/v1.Device
	orchestrator/scheduler: name attributes capacity consumesCounters nodeName nodeSelector allNodes taints bindsToNode
	valued: allowMultipleAllocations
	refused: bindingConditions bindingFailureConditions nodeAllocatableResources
resource/v1.DeviceCounterConsumption
	orchestrator/scheduler: counterSet counters
	refused: compatibilityGroups
resource/v1.DeviceTaint
	orchestrator/scheduler: key value effect
	orchestrator/controllers/devicetainteviction: timeAdded
autoscaling/v2.HorizontalPodAutoscaler
	inline: metadata spec
autoscaling/v2.HorizontalPodAutoscalerSpec
	orchestrator/controllers/podautoscaler: scaleTargetRef minReplicas maxReplicas metrics behavior
autoscaling/v2.CrossVersionObjectReference
	orchestrator/controllers/podautoscaler: kind name apiVersion
autoscaling/v2.MetricSpec
	orchestrator/controllers/podautoscaler: type object pods resource containerResource external
autoscaling/v2.ObjectMetricSource
	orchestrator/controllers/podautoscaler: describedObject target metric
autoscaling/v2.PodsMetricSource
	orchestrator/controllers/podautoscaler: metric target
autoscaling/v2.ResourceMetricSource
	orchestrator/controllers/podautoscaler: name target
autoscaling/v2.ContainerResourceMetricSource
	orchestrator/controllers/podautoscaler: name target container
autoscaling/v2.ExternalMetricSource
	orchestrator/controllers/podautoscaler: metric target
autoscaling/v2.MetricIdentifier
	orchestrator/controllers/podautoscaler: name selector
autoscaling/v2.MetricTarget
	orchestrator/api: type
	orchestrator/controllers/podautoscaler: value averageValue averageUtilization
autoscaling/v2.HorizontalPodAutoscalerBehavior
	orchestrator/controllers/podautoscaler: scaleUp scaleDown
autoscaling/v2.HPAScalingRules
	orchestrator/controllers/podautoscaler: stabilizationWindowSeconds selectPolicy policies tolerance
autoscaling/v2.HPAScalingPolicy
	orchestrator/controllers/podautoscaler: type value periodSeconds
autoscaling/v1.HorizontalPodAutoscaler
	inline: metadata spec
autoscaling/v1.HorizontalPodAutoscalerSpec
	orchestrator/api: scaleTargetRef minReplicas maxReplicas targetCPUUtilizationPercentage
autoscaling/v1.CrossVersionObjectReference
	orchestrator/controllers/podautoscaler: kind name apiVersion
meta/v1.ObjectMeta
	orchestrator: name generateName namespace uid resourceVersion labels annotations ownerReferences finalizers managedFields
	ours: selfLink generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds
meta/v1.OwnerReference
	orchestrator/controllers: apiVersion kind name uid controller blockOwnerDeletion
`

// valuedCases holds, for the fields whose verdict is "valued", what is accepted and what is refused under
// which field. Objects are written as in minimal.
var valuedCases = []struct{ field, kind, accepted, refused, at string }{
	{"resource/v1.ExactDeviceRequest.adminAccess", "ResourceClaim", `{metadata: {name: x}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c, adminAccess: false}}]}}}`,
		`{metadata: {name: x}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c, adminAccess: true}}]}}}`, "spec.devices.requests[0].exactly.adminAccess"},
	{"resource/v1.Device.allowMultipleAllocations", "ResourceSlice", sliceWith("allowMultipleAllocations: false"), sliceWith("allowMultipleAllocations: true"),
		"spec.devices[0].allowMultipleAllocations"},
	{"core/v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy", "PersistentVolume", volumeWith("persistentVolumeReclaimPolicy: Delete"),
		volumeWith("persistentVolumeReclaimPolicy: Recycle"), "spec.persistentVolumeReclaimPolicy"},
	{"core/v1.PodSpec.os", "Pod", podWith("", ", os: {name: linux}"), podWith("", ", os: {name: windows}"), "spec.os"},
	{"core/v1.PodOS.name", "Pod", podWith("", ", os: {name: linux}"), podWith("", ", os: {name: windows}"), "spec.os"},
	{"core/v1.PodSpec.hostUsers", "Pod", podWith("", ", hostUsers: true"), podWith("", ", hostUsers: false"), "spec.hostUsers"},
	{"core/v1.PodSpec.shareProcessNamespace", "Pod", podWith("", ", shareProcessNamespace: false"), podWith("", ", shareProcessNamespace: true"), "spec.shareProcessNamespace"},
	{"core/v1.PodSpec.setHostnameAsFQDN", "Pod", podWith("", ", setHostnameAsFQDN: false"), podWith("", ", setHostnameAsFQDN: true"), "spec.setHostnameAsFQDN"},
	{"core/v1.PodSecurityContext.sysctls", "Pod", podWith("", ", securityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}]}"),
		podWith("", ", securityContext: {sysctls: [{name: vm.swappiness, value: '1'}]}"), "spec.securityContext.sysctls[0].name"},
	{"core/v1.PodSecurityContext.seccompProfile", "Pod", podWith("", ", securityContext: {seccompProfile: {type: RuntimeDefault}}"),
		podWith("", ", securityContext: {seccompProfile: {type: Localhost, localhostProfile: p}}"), "spec.securityContext.seccompProfile.type"},
	{"core/v1.SeccompProfile.type", "Pod", podWith(", securityContext: {seccompProfile: {type: Unconfined}}", ""),
		podWith(", securityContext: {seccompProfile: {type: Localhost, localhostProfile: p}}", ""), "spec.containers[0].securityContext.seccompProfile.type"},
	{"core/v1.SecurityContext.seccompProfile", "Pod", podWith(", securityContext: {seccompProfile: {type: RuntimeDefault}}", ""),
		podWith(", securityContext: {seccompProfile: {type: Odd}}", ""), "spec.containers[0].securityContext.seccompProfile.type"},
	{"core/v1.PodSecurityContext.supplementalGroupsPolicy", "Pod", podWith("", ", securityContext: {supplementalGroupsPolicy: Merge}"),
		podWith("", ", securityContext: {supplementalGroupsPolicy: Strict}"), "spec.securityContext.supplementalGroupsPolicy"},
	{"core/v1.PodSecurityContext.appArmorProfile", "Pod", podWith("", ", securityContext: {appArmorProfile: {type: Unconfined}}"),
		podWith("", ", securityContext: {appArmorProfile: {type: RuntimeDefault}}"), "spec.securityContext.appArmorProfile.type"},
	{"core/v1.AppArmorProfile.type", "Pod", podWith("", ", securityContext: {appArmorProfile: {type: Unconfined}}"),
		podWith("", ", securityContext: {appArmorProfile: {type: Localhost}}"), "spec.securityContext.appArmorProfile.type"},
	{"core/v1.SecurityContext.appArmorProfile", "Pod", podWith(", securityContext: {appArmorProfile: {type: Unconfined}}", ""),
		podWith(", securityContext: {appArmorProfile: {type: RuntimeDefault}}", ""), "spec.containers[0].securityContext.appArmorProfile.type"},
	{"core/v1.VolumeMount.recursiveReadOnly", "Pod", podWith(", volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Disabled}]", ", volumes: [{name: v}]"),
		podWith(", volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled}]", ", volumes: [{name: v}]"), "spec.containers[0].volumeMounts[0].recursiveReadOnly"},
	{"core/v1.GRPCAction.mode", "Pod", podWith(", readinessProbe: {grpc: {port: 1, mode: Plaintext}}", ""),
		podWith(", readinessProbe: {grpc: {port: 1, mode: TLS}}", ""), "spec.containers[0].readinessProbe.grpc.mode"},
	{"core/v1.Toleration.operator", "Pod", podWith("", ", tolerations: [{key: a, operator: Exists}]"),
		podWith("", ", tolerations: [{key: a, operator: Gt, value: '1'}]"), "spec.tolerations[0].operator"},
	{"core/v1.ServiceSpec.ipFamilies", "Service", `{metadata: {name: x}, spec: {ipFamilies: [IPv4], ports: [{port: 80}]}}`,
		`{metadata: {name: x}, spec: {ipFamilies: [IPv6], ports: [{port: 80}]}}`, "spec.ipFamilies[0]"},
	{"core/v1.ServiceSpec.ipFamilyPolicy", "Service", `{metadata: {name: x}, spec: {ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}}`,
		`{metadata: {name: x}, spec: {ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}}`, "spec.ipFamilyPolicy"},
	{"core/v1.ServicePort.protocol", "Service", `{metadata: {name: x}, spec: {ports: [{port: 80, protocol: UDP}]}}`,
		`{metadata: {name: x}, spec: {ports: [{port: 80, protocol: SCTP}]}}`, "spec.ports[0].protocol"},
	{"apps/v1.StatefulSetUpdateStrategy.type", "StatefulSet", statefulSetWith("updateStrategy: {type: OnDelete}"), statefulSetWith("updateStrategy: {type: Recreate}"), "spec.updateStrategy.type"},
	{"discovery/v1.EndpointSlice.addressType", "EndpointSlice", `{metadata: {name: x}, addressType: IPv4}`, `{metadata: {name: x}, addressType: FQDN}`, "addressType"},
}

func statefulSetWith(fields string) string {
	return `{metadata: {name: x}, spec: {selector: {matchLabels: {app: a}}, serviceName: x, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}, ` + fields + `}}`
}
