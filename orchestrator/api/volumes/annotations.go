package volumes

// Annotations by which the binder, the scheduler, provisioners and nodes tell each other of volumes, as Kubernetes names them.
const (
	// BindCompleted is on claims whose binding was once complete: one that has lost its volume since is Lost.
	BindCompleted = "pv.kubernetes.io/bind-completed"
	// BoundByController is on claims and volumes whose other half was chosen for them, not by a person.
	BoundByController = "pv.kubernetes.io/bound-by-controller"
	// SelectedNode is on claims that wait for their first consumer: where it will run.
	SelectedNode = "volume.kubernetes.io/selected-node"
	// ProvisionedBy is on volumes that were made for a claim: by whom.
	ProvisionedBy = "pv.kubernetes.io/provisioned-by"
	// StorageProvisioner is on claims that wait for a volume to be made: by whom.
	StorageProvisioner     = "volume.kubernetes.io/storage-provisioner"
	BetaStorageProvisioner = "volume.beta.kubernetes.io/storage-provisioner"
	// NoProvisioner is the provisioner of classes whose volumes a person makes.
	NoProvisioner = "kubernetes.io/no-provisioner"
)

const yes = "yes"
