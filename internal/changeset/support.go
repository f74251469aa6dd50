package changeset

// Support is what a platform does with a resource type.
type Support struct {
	Level Level `json:"level"`
	// Note says what stands for it (Real), or why it is refused and what to do.
	Note string `json:"note,omitzero"`
	// Snapshots says that the type's Handler is a Snapshotter.
	Snapshots bool `json:"snapshots,omitzero"`
	// Groups says that the type's Handler is a Group.
	Groups bool `json:"groups,omitzero"`
}

// Level is how honest a type is on a platform.
type Level string

const (
	Real     Level = "real"     // software runs
	Modelled Level = "modelled" // checked, stored, referable; nothing runs
	Refused  Level = "refused"  // refused at plan time
)
