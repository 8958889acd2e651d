//go:build integration

package apiserver_test

import (
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/signpost-dev/signpost/test/apiserver"
)

func TestServerKeepsItsDataOverARestart(t *testing.T) {
	began := time.Now()
	s, err := apiserver.Start(t.Context(), apiserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	t.Logf("started in %v", time.Since(began))
	client := kubernetes.NewForConfigOrDie(s.Config())
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	made, err := client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.Spec.ClusterIP, "10.96.") {
		t.Errorf("cluster IP %s is not in %s", made.Spec.ClusterIP, apiserver.ServiceCIDR)
	}
	svc.Name = "b"
	if _, err := client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	began = time.Now()
	if err := s.StopAPI(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %v", time.Since(began))
	if _, err := client.CoreV1().Services("default").Get(t.Context(), "a", metav1.GetOptions{}); err == nil {
		t.Error("the stopped server answers")
	}
	for _, gone := range []bool{true, false} {
		if err := s.Forget(t.Context(), "services/specs", "default", "b"); (err == nil) != gone {
			t.Errorf("forget a Service that was made: %v: %v", gone, err)
		}
	}
	began = time.Now()
	if err := s.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("started again in %v", time.Since(began))
	again, err := client.CoreV1().Services("default").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Services("default").Get(t.Context(), "b", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get the forgotten Service: %v, want that it is not found", err)
	}
	if again.UID != made.UID {
		t.Errorf("the Service's UID was %s and is %s", made.UID, again.UID)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("SIGNPOST_CACHE", t.TempDir())
	s, err := apiserver.Start(t.Context(), apiserver.Options{})
	if err == nil {
		t.Fatal(s.Stop())
	}
	if !strings.Contains(err.Error(), "kube-apiserver") || !strings.Contains(err.Error(), "make packages programs") {
		t.Errorf("the error does not say what is missing and what to do: %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := apiserver.Start(t.Context(), apiserver.Options{RBAC: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
