"""The portal's models in the admin."""

from django.contrib import admin

from example_project.portal.models import Activity, CompletionRecord, InterviewRecord, Student


@admin.register(Student)
class StudentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    list_display = ["name", "partner_id", "external_id", "email", "is_known"]
    list_filter = ["is_known"]
    raw_id_fields = ["user"]
    search_fields = ["name", "partner_id", "external_id", "email"]


@admin.register(InterviewRecord)
class InterviewRecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    list_display = ["__str__", "student", "category", "completed", "is_deleted", "updated_at"]
    list_filter = ["completed", "is_deleted"]
    list_select_related = ["student"]
    search_fields = ["title", "interview_id", "student__name"]


@admin.register(CompletionRecord)
class CompletionRecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    list_display = ["__str__", "student", "completed_at"]
    list_select_related = ["student"]
    search_fields = ["course_title", "course_id", "student__name"]


@admin.register(Activity)
class ActivityAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    list_display = ["created_at", "receiver", "kind", "student", "text"]
    list_filter = ["receiver", "kind"]
    list_select_related = ["student"]
    raw_id_fields = ["student", "event"]
