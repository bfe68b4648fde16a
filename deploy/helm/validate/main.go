// Decodes the objects of the Prometheus operator and of the Gateway API among YAML documents (standard input) strictly into
// the Go types of these projects, and fails at a field that the types do not have. check.py validates the other kinds.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

func main() {
	input, err := io.ReadAll(os.Stdin)
	found := 0
	for _, document := range bytes.Split(input, []byte("\n---\n")) {
		var decoded bool
		if err == nil {
			decoded, err = decode(document)
		}
		if decoded {
			found++
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d objects of the Prometheus operator and the Gateway API decoded\n", found)
}

func decode(document []byte) (bool, error) {
	var kind struct{ Kind string }
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return false, err
	}
	var err error
	switch kind.Kind {
	case "ServiceMonitor":
		var object monitoring.ServiceMonitor
		err = decodeStrictly(document, &object)
		if err == nil && (len(object.Spec.Endpoints) == 0 || object.Spec.Endpoints[0].Port == "") {
			err = errors.New("it has no endpoint")
		}
	case "PrometheusRule":
		var object monitoring.PrometheusRule
		err = decodeStrictly(document, &object)
		if err == nil && (len(object.Spec.Groups) == 0 || len(object.Spec.Groups[0].Rules) == 0) {
			err = errors.New("it has no rules")
		}
	case "HTTPRoute":
		var object gateway.HTTPRoute
		err = decodeStrictly(document, &object)
		if err == nil && (len(object.Spec.ParentRefs) == 0 || len(object.Spec.Rules) == 0) {
			err = errors.New("it has no parent or no rules")
		}
	default:
		return false, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", kind.Kind, err)
	}
	return true, err
}

// The name of every field counts, with upper and lower case, as it does to Kubernetes.
func decodeStrictly(document []byte, object any) error {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	strict, err := json.UnmarshalStrict(text, object)
	return errors.Join(append(strict, err)...)
}
