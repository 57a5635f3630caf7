# SPDX-License-Identifier: Apache-2.0
from django.urls import include, path
from rest_framework.routers import DefaultRouter

from uploads import views

router = DefaultRouter()
router.include_root_view = False
for name, viewset in views.VIEWSETS.items():
    router.register(name, viewset, basename=name)

urlpatterns = [path("api/v1/", include(router.urls)), path("api/v1/floor/", views.Floor.as_view())]
