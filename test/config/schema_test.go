package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	signpostv1alpha1 "github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// TestSchemaHasTheFieldsOfTheTypes: a field that only one of them has would be
// dropped by the server, or never read.
func TestSchemaHasTheFieldsOfTheTypes(t *testing.T) {
	crd := only[*apiextensionsv1.CustomResourceDefinition](t, manifests(t, defaultDir))
	if len(crd.Spec.Versions) != 1 || crd.Spec.Versions[0].Name != signpostv1alpha1.Version || crd.Spec.Group != signpostv1alpha1.Group ||
		crd.Spec.Names.Kind != signpostv1alpha1.LoadBalancerPoolKind || crd.Spec.Names.Plural != signpostv1alpha1.LoadBalancerPoolsResource {
		t.Fatalf("%s is not the kind of pkg/api/v1alpha1", crd.Name)
	}
	want, got := map[string]string{}, map[string]string{}
	typeFields("", reflect.TypeFor[signpostv1alpha1.LoadBalancerPool](), want)
	schemaFields("", crd.Spec.Versions[0].Schema.OpenAPIV3Schema, got)
	maps.DeleteFunc(want, func(path, _ string) bool { return strings.HasPrefix(path, ".metadata.") })
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("fields (-types +schema):\n%s", diff)
	}
	for path := range want {
		if want[path] != got[path] {
			t.Errorf("%s is %s in the types, %s in the schema", path, want[path], got[path])
		}
	}
}

// typeFields enters each field of a type, with its JSON type.
func typeFields(path string, in reflect.Type, out map[string]string) {
	switch in.Kind() {
	case reflect.Pointer:
		typeFields(path, in.Elem(), out)
	case reflect.Slice:
		out[path] = "array"
		typeFields(path+"[]", in.Elem(), out)
	case reflect.Map:
		out[path] = "object"
		typeFields(path+"{}", in.Elem(), out)
	case reflect.Struct:
		if in.Name() == "Time" {
			out[path] = "string"
			return
		}
		out[path] = "object"
		for field := range in.Fields() {
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			if options == "inline" {
				delete(out, path)
				typeFields(path, field.Type, out)
				continue
			}
			typeFields(path+"."+name, field.Type, out)
		}
	case reflect.Bool:
		out[path] = "boolean"
	case reflect.Int64:
		out[path] = "integer"
	default:
		out[path] = in.Kind().String()
	}
}

// schemaFields does the same for a schema.
func schemaFields(path string, in *apiextensionsv1.JSONSchemaProps, out map[string]string) {
	out[path] = in.Type
	for name := range in.Properties {
		schemaFields(path+"."+name, new(in.Properties[name]), out)
	}
	if in.Items != nil {
		schemaFields(path+"[]", in.Items.Schema, out)
	}
	if in.AdditionalProperties != nil {
		schemaFields(path+"{}", in.AdditionalProperties.Schema, out)
	}
}
