package v1alpha1

import (
	"errors"
	"fmt"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Parse reads a configuration file: the defaults, overlaid with what is in data.
// It is strict. The error lists everything that is wrong, each with its path: an
// unknown or repeated field, a value of the wrong type or out of range.
func Parse(data []byte) (*SignpostConfiguration, error) {
	cfg := Default()
	cfg.APIVersion, cfg.Kind = "", ""
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("no valid YAML: %w", err)
	}
	strict, err := kjson.UnmarshalStrict(asJSON, cfg)
	if err != nil {
		return nil, err
	}
	faults := strict
	if cfg.APIVersion != APIVersion {
		faults = append(faults, fmt.Errorf("apiVersion: %q is not %q", cfg.APIVersion, APIVersion))
	}
	if cfg.Kind != Kind {
		faults = append(faults, fmt.Errorf("kind: %q is not %q", cfg.Kind, Kind))
	}
	faults = append(faults, cfg.Validate()...)
	return cfg, errors.Join(faults...)
}

// Marshal returns cfg as a configuration file.
func (c *SignpostConfiguration) Marshal() ([]byte, error) { return yaml.Marshal(c) }
