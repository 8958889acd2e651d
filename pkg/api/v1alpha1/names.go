package v1alpha1

// LoadBalancerClass is the spec.loadBalancerClass of Services that want their
// address from Signpost, whatever else there is in the cluster.
const LoadBalancerClass = "signpost.dev/l2"

// Annotations of a Service of type LoadBalancer.
const (
	// AnnotationAddresses asks for these addresses: one, or one per family, separated
	// by a comma. spec.loadBalancerIP asks for one as well.
	AnnotationAddresses = "signpost.dev/addresses"
	// AnnotationPool asks for an address of one of these pools: names, separated by
	// commas, the first one that has an address being taken.
	AnnotationPool = "signpost.dev/pool"
	// AnnotationScope asks for an internal or a public load balancer, and overrides
	// what an annotation of a cloud says.
	AnnotationScope = "signpost.dev/load-balancer-scope"
	// AnnotationShareAddress is a key. Services with the same one may get the same
	// address if they have no port in common, and either all have the
	// externalTrafficPolicy Cluster, or Local and the same selector.
	AnnotationShareAddress = "signpost.dev/share-address"
)

// The values of AnnotationScope.
const (
	AnnotationScopeInternal = "internal"
	AnnotationScopePublic   = "public"
)

// ConditionAddressAssigned is the condition of a Service of type LoadBalancer
// that is True if it has addresses from Signpost. Its reason says whether these are
// what it asks for, and if not, why.
const ConditionAddressAssigned = "signpost.dev/AddressAssigned"

// The reasons of ConditionAddressAssigned.
const (
	// ReasonAssigned: the Service has what it asks for.
	ReasonAssigned = "Assigned"
	// ReasonKept: the Service has an address that no pool has any more. It stays
	// until the Service gives it up.
	ReasonKept = "KeptOutsidePools"
	// ReasonNoPool: there is no pool that the Service may get an address from.
	ReasonNoPool = "NoPool"
	// ReasonPoolExhausted: there are such pools, and they have no free address.
	ReasonPoolExhausted = "PoolExhausted"
	// ReasonPoolNotReady: the pool that it could get one from is not ready.
	ReasonPoolNotReady = "PoolNotReady"
	// ReasonAddressTaken: another Service has the address that is asked for.
	ReasonAddressTaken = "AddressTaken"
	// ReasonAddressOutsidePools: no pool has the address that is asked for.
	ReasonAddressOutsidePools = "AddressOutsidePools"
	// ReasonAddressNotAllowed: the pool that has it is not for this Service.
	ReasonAddressNotAllowed = "AddressNotAllowed"
	// ReasonInvalidRequest: it cannot be understood what the Service asks for.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonUnknownClass: the Service asks Signpost for something, but its class says
	// that it is none of Signpost's business.
	ReasonUnknownClass = "UnknownClass"
)

// ConditionPoolReady is the condition of a LoadBalancerPool that says whether it
// gives out addresses.
const ConditionPoolReady = "Ready"

// The reasons of ConditionPoolReady.
const (
	// ReasonPoolReady: it does.
	ReasonPoolReady = "Ready"
	// ReasonOverlap: an older pool has some of its addresses.
	ReasonOverlap = "Overlap"
	// ReasonMalformed: a range or a selector of it cannot be understood.
	ReasonMalformed = "Malformed"
)
