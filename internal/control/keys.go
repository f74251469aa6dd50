package control

import (
	"context"

	"makeitso/internal/fault"
)

// KeysRequest asks for the keys of an environment.
type KeysRequest struct {
	Environment string `json:"environment,omitempty"`
}

// Keys are what clients of AWS need to drive an environment.
type Keys struct {
	AccessKey      string `json:"accessKey"`
	SecretKey      string `json:"secretKey"`
	Region         string `json:"region"`
	CloudFormation string `json:"cloudFormation"` // the URL of the API, "" while nobody serves it
	S3             string `json:"s3"`             // the URL of the environment's S3 server
	// Registry is nil before the environment's first image repository.
	Registry *RegistryKeys `json:"registry,omitempty"`
}

// RegistryKeys are what a client needs to push to the image registry.
type RegistryKeys struct {
	Address  string `json:"address"`
	User     string `json:"user"`
	Password string `json:"password"`
}

// Keys gives the keys of an environment, and makes them when first asked.
func (c *Control) Keys(ctx context.Context, r KeysRequest) (Keys, error) {
	env, err := c.open(ctx, r.Environment)
	if err != nil {
		return Keys{}, err
	}
	keys, err := env.Keys(ctx)
	if err == nil && keys.CloudFormation == "" {
		err = fault.New(fault.Unavailable, "nobody answers the API of CloudFormation: no makeitso serves the project").WithHint("start one: makeitso serve")
	}
	return keys, err
}
