package daemon

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/model"
)

// events writes Kubernetes events on Services. client-go joins equal ones and
// limits how many an object gets, so it may be called at any rate; it never blocks.
type events struct{ record.EventRecorder }

func newEvents(clientset kubernetes.Interface, node string) (e *events, stop func()) {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clientset.CoreV1().Events("")})
	source := corev1.EventSource{Component: "signpost", Host: node}
	return &events{broadcaster.NewRecorder(scheme.Scheme, source)}, broadcaster.Shutdown
}

// ServiceWarning says on a Service that something of it does not work.
func (e *events) ServiceWarning(svc *model.Service, reason, message string) {
	e.Event(referenceTo(svc), corev1.EventTypeWarning, reason, message)
}

// ServiceNormal says on a Service what has been done for it.
func (e *events) ServiceNormal(svc *model.Service, reason, message string) {
	e.Event(referenceTo(svc), corev1.EventTypeNormal, reason, message)
}

func referenceTo(svc *model.Service) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Service",
		Namespace: svc.Namespace, Name: svc.Name.Name, UID: types.UID(svc.UID),
	}
}
