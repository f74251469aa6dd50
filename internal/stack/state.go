package stack

import (
	"cmp"
	"time"

	"makeitso/internal/changeset"
	"makeitso/internal/pace"
)

// Statuses of stacks and resources, in CloudFormation's words.
const (
	CreateInProgress                        = "CREATE_IN_PROGRESS"
	CreateComplete                          = "CREATE_COMPLETE"
	CreateFailed                            = "CREATE_FAILED"
	RollbackInProgress                      = "ROLLBACK_IN_PROGRESS"
	RollbackComplete                        = "ROLLBACK_COMPLETE"
	RollbackFailed                          = "ROLLBACK_FAILED"
	UpdateInProgress                        = "UPDATE_IN_PROGRESS"
	UpdateCompleteCleanupInProgress         = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
	UpdateComplete                          = "UPDATE_COMPLETE"
	UpdateFailed                            = "UPDATE_FAILED"
	UpdateRollbackInProgress                = "UPDATE_ROLLBACK_IN_PROGRESS"
	UpdateRollbackCompleteCleanupInProgress = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
	UpdateRollbackComplete                  = "UPDATE_ROLLBACK_COMPLETE"
	UpdateRollbackFailed                    = "UPDATE_ROLLBACK_FAILED"
	DeleteInProgress                        = "DELETE_IN_PROGRESS"
	DeleteComplete                          = "DELETE_COMPLETE"
	DeleteFailed                            = "DELETE_FAILED"
	DeleteSkipped                           = "DELETE_SKIPPED"
	ImportInProgress                        = "IMPORT_IN_PROGRESS"
	ImportComplete                          = "IMPORT_COMPLETE"
	ImportFailed                            = "IMPORT_FAILED" // of a resource
	ImportRollbackInProgress                = "IMPORT_ROLLBACK_IN_PROGRESS"
	ImportRollbackComplete                  = "IMPORT_ROLLBACK_COMPLETE"
	ImportRollbackFailed                    = "IMPORT_ROLLBACK_FAILED"
)

// statuses is how an operation, or what it does to one resource, is told.
type statuses struct {
	begun, done, failed   string
	back, restored, stuck string // of the roll back
}

// statusesOf gives those of a stack.
func statusesOf(a changeset.Action) statuses {
	switch a {
	case changeset.Create:
		return statuses{CreateInProgress, CreateComplete, CreateFailed, RollbackInProgress, RollbackComplete, RollbackFailed}
	case changeset.Import:
		return statuses{ImportInProgress, ImportComplete, ImportFailed, ImportRollbackInProgress, ImportRollbackComplete, ImportRollbackFailed}
	}
	return statuses{UpdateInProgress, UpdateComplete, UpdateFailed, UpdateRollbackInProgress, UpdateRollbackComplete, UpdateRollbackFailed}
}

// statuses gives those of a resource.
func (k stepKind) statuses() statuses {
	switch k {
	case stepCreate:
		return statusesOf(changeset.Create)
	case stepImport:
		return statusesOf(changeset.Import)
	}
	return statusesOf(changeset.Update)
}

// Stack is a stack as it is remembered.
type Stack struct {
	Environment string             `json:"environment"`
	Name        string             `json:"name"`
	ID          string             `json:"id"`
	Description string             `json:"description,omitempty"`
	Status      string             `json:"status"`
	Reason      string             `json:"reason,omitempty"`
	Revision    int64              `json:"revision"` // rises with each operation
	Digest      string             `json:"digest"`   // of the change set applied last, or under way
	Tags        map[string]string  `json:"tags,omitempty"`
	Outputs     []changeset.Output `json:"outputs,omitempty"`
	Protected   bool               `json:"protected,omitempty"` // must not be deleted
	Policy      string             `json:"policy,omitempty"`    // what updates may do
	Parent      string             `json:"parent,omitempty"`    // of a nested stack: the one whose resource it is
	Root        string             `json:"root,omitempty"`      // of a nested stack: the outermost one
	// ParentRevision is the revision of the parent whose operation changed a
	// nested stack last.
	ParentRevision int64 `json:"parentRevision,omitempty"`
	// Monitored is until when the alarms of a change are watched that made all.
	Monitored time.Time `json:"monitored,omitzero"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// exists says whether there is anything of the stack that an update starts
// from. A stack whose creation was rolled back has nothing.
func (s Stack) exists() bool {
	return s.Status != "" && s.Status != DeleteComplete && s.Status != RollbackComplete
}

// root is the name of the stack that is operated on to change this one.
func (s Stack) root() string { return cmp.Or(s.Root, s.Name) }

// Export is an output that other stacks of the environment import.
type Export struct {
	Name      string   `json:"name"`
	Value     string   `json:"value"`
	Stack     string   `json:"stack"`
	Importers []string `json:"importers,omitempty"`
	// Leaving says that the stack exports it no more: it is there for the
	// importers it still has, and for nobody else.
	Leaving bool `json:"leaving,omitempty"`
	// Held says that the value has changed while importers had the former one:
	// what that names is kept until the last of them has moved.
	Held bool `json:"held,omitempty"`

	version int64 // of the record, for writes that depend on what was read
}

// Resource is a resource of a stack, for showing.
type Resource struct {
	LogicalID  string          `json:"logicalId"`
	PhysicalID string          `json:"physicalId,omitempty"`
	Token      string          `json:"token,omitempty"`
	Type       string          `json:"type"`
	Level      changeset.Level `json:"level"`
	Status     string          `json:"status"`
	Reason     string          `json:"reason,omitempty"`
	Attributes map[string]any  `json:"attributes,omitempty"`
	Time       time.Time       `json:"time"`
}

// Event is one transition of a stack or of a resource of it.
type Event struct {
	Number     int64     `json:"number"` // rises by one within a stack
	Time       time.Time `json:"time"`
	Stack      string    `json:"stack"`
	LogicalID  string    `json:"logicalId"` // the stack's own name for the stack's own events
	PhysicalID string    `json:"physicalId,omitempty"`
	Type       string    `json:"type"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
}

// source is the change that a stack's present state was made from.
type source struct {
	Change  changeset.Change  `json:"change"`
	Imports map[string]string `json:"imports,omitempty"`
	changeset.Outside
}

// resourceState is the record of one logical id. Every physical thing that
// exists, or may exist, for it is named here before it is touched.
type resourceState struct {
	LogicalID string               `json:"logicalId"`
	Current   *changeset.Physical  `json:"current,omitempty"` // what references see
	Step      *step                `json:"step,omitempty"`
	Doomed    []changeset.Physical `json:"doomed,omitempty"` // to be deleted, whatever happens
	Status    string               `json:"status"`
	Reason    string               `json:"reason,omitempty"`
	Time      time.Time            `json:"time"`
}

// step is what an operation does, or did, to a resource. A step of an earlier
// revision than the stack's is over and means nothing.
type step struct {
	Revision int64               `json:"revision"`
	Kind     stepKind            `json:"kind"`
	Before   *changeset.Physical `json:"before,omitempty"` // what Current was, nil for a create
	Next     *changeset.Physical `json:"next,omitempty"`   // the intent: what a call under way leads to
	// DeleteFirst says of a replacement that Before goes before Next comes.
	DeleteFirst bool `json:"deleteFirst,omitempty"`
	// Wait is set once the step waits for signals.
	Wait *pace.Waiting `json:"wait,omitempty"`
}

type stepKind string

const (
	stepCreate  stepKind = "create"
	stepUpdate  stepKind = "update"
	stepReplace stepKind = "replace"
	stepImport  stepKind = "import" // of what exists and was not made here
)

// typ is the type to show for the resource.
func (s resourceState) typ() string {
	switch {
	case s.Step != nil && s.Step.Next != nil:
		return s.Step.Next.Type
	case s.Current != nil:
		return s.Current.Type
	case len(s.Doomed) > 0:
		return s.Doomed[0].Type
	}
	return ""
}

// all gives every physical thing that the record names, each token once.
func (s resourceState) all() []changeset.Physical {
	var found []changeset.Physical
	seen := map[string]bool{}
	add := func(p *changeset.Physical) {
		if p != nil && !seen[p.Token] {
			seen[p.Token] = true
			found = append(found, *p)
		}
	}
	if s.Step != nil {
		add(s.Step.Next)
	}
	add(s.Current)
	if s.Step != nil {
		add(s.Step.Before)
	}
	for i := range s.Doomed {
		add(&s.Doomed[i])
	}
	return found
}
