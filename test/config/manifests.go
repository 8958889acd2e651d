package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	signpostv1alpha1 "github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// kustomization is all that a kustomization.yaml of config/ may say: then what
// kustomize renders are the files that it names, one after the other, and can
// be read without the program.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
}

// Manifests returns the objects of a folder with a kustomization.yaml, in their
// order. A field that the API does not know is an error.
func Manifests(dir string) ([]runtime.Object, error) {
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	var k kustomization
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		return nil, fmt.Errorf("%s/kustomization.yaml: %w", dir, err)
	}
	var objects []runtime.Object
	for _, r := range k.Resources {
		some, err := decode(filepath.Join(dir, r))
		if err != nil {
			return nil, err
		}
		objects = append(objects, some...)
	}
	return objects, nil
}

func decode(path string) ([]runtime.Object, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	known, err := kinds()
	if err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	var objects []runtime.Object
	for {
		// The reader keeps what does not fit into a buffer for the next time,
		// so one that is as large as the file always has a whole document.
		buffer := make([]byte, len(text)+1)
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		o, _, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		objects = append(objects, o)
	}
}

// kinds are those that a manifest may have.
func kinds() (*runtime.Scheme, error) {
	out := runtime.NewScheme()
	return out, errors.Join(scheme.AddToScheme(out), apiextensionsv1.AddToScheme(out), signpostv1alpha1.AddToScheme(out))
}
